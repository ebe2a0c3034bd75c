"""Breakages of the gateway and its container."""

from __future__ import annotations

from plan.backup.places import ARCHIVES
from tests.lab.breakages.breakage import Breakage, Caught, Repair, Round
from tests.lab.breakages.shell import (
    OPENCLAW_JSON,
    OPENCLAW_READY,
    QUADLET,
    RESTART_OPENCLAW,
    STOP_OPENCLAW,
    edit,
    edit_json,
    listen,
    until,
)

REPAIR = ("OpenClaw | Configuration, container",)
RESTART = f"{RESTART_OPENCLAW}; {OPENCLAW_READY}"
CAGE = "openclaw.cage[HOST]"


def caged(change: str) -> str:
    """A piece of shell that changes the container's Quadlet with a sed command and restarts the container."""
    return f"{edit(QUADLET, change)}; {RESTART}"


def configured(change: str, wait: str = OPENCLAW_READY) -> str:
    """A piece of shell that changes the gateway's configuration, `it`, with a Python statement and restarts the
    gateway."""
    return f"{edit_json(OPENCLAW_JSON, change)}; {RESTART_OPENCLAW}; {wait}"


#: Checks that may fail too if the container does not run.
AWAY = (
    "openclaw.*[HOST]",
    "container.*",
    "message.*",
    "vpn.granted[*-HOST]",
    "ca.server[GATEWAY-gateway]",
    "host.units[HOST]",
    "host.listeners[HOST]",
    "host.services[HOST]",
    # These checks read inside the container for which model the gateway asks.
    "ollama.model[MODEL]",
    "ollama.context[MODEL]",
)

BREAKAGES = (
    Breakage(
        "openclaw.stopped",
        "gateway",
        "The gateway does not run.",
        STOP_OPENCLAW,
        (
            Caught(CAGE),
            Caught("vpn.granted[CLIENT-HOST]"),
            Caught("message.answered[CLIENT]"),
            Caught("ca.server[GATEWAY-gateway]"),
        ),
        AWAY,
        REPAIR,
    ),
    Breakage(
        "openclaw.writable",
        "gateway",
        "The container may write to its own root file system.",
        caged("s/^ReadOnly=true/ReadOnly=false/"),
        (Caught(CAGE, "not true:.*read-only"),),
        (),
        REPAIR,
    ),
    Breakage(
        "openclaw.drop-in",
        "gateway",
        "At its next start, a drop-in for the container's file would give the container the host's network.",
        "folder=$(dirname $(echo /etc/containers/systemd/users/*/openclaw.container))/openclaw.container.d; "
        "install -d $folder; printf '[Container]\\nNetwork=host\\n' > $folder/wide.conf",
        (Caught("host.drop_ins[HOST]", "openclaw.container is changed by .*/wide.conf"),),
        by_hand=Repair(
            "Somebody wrote it on purpose, so a run does not remove it: the run stops before any change and says how "
            "to remove it.",
            "rm -r /etc/containers/systemd/users/*/openclaw.container.d",
        ),
        sample=Round("single", 2),
    ),
    Breakage(
        "openclaw.capability",
        "gateway",
        "The container has a capability with which it may change its network.",
        caged("s/^DropCapability=all/DropCapability=all\\nAddCapability=NET_ADMIN/"),
        (Caught(CAGE, "not true:.*no capabilities"),),
        (),
        REPAIR,
        sample=Round("single", 1),
    ),
    Breakage(
        "openclaw.own-site",
        "gateway",
        "The container asks name servers for the web site of OpenClaw's makers.",
        caged("/^AddHost=clawhub/d"),
        (Caught(CAGE, "not true:.*makers' sites"),),
        (),
        REPAIR,
    ),
    Breakage(
        "openclaw.host-folder",
        "gateway",
        "A folder of the host is mounted into the container.",
        caged("s#^ReadOnly=true#ReadOnly=true\\nVolume=/etc:/host:ro#"),
        (Caught(CAGE, "/host"),),
        (),
        REPAIR,
        topologies=("split",),
    ),
    Breakage(
        "openclaw.engine-socket",
        "gateway",
        "The container can give commands to the Podman that runs it.",
        "systemctl --user --machine=openclaw@ start podman.socket; "
        + caged("s#^ReadOnly=true#ReadOnly=true\\nVolume=%t/podman/podman.sock:/run/podman.sock#"),
        (Caught(CAGE, "podman.sock"),),
        ("host.owners[HOST]",),
        REPAIR,
    ),
    Breakage(
        "openclaw.host-loopback",
        "gateway",
        "The container reaches every port of the host's loopback address.",
        caged("s/--no-map-gw/--map-gw/; s/-T,[0-9a-z]*/-T,auto/"),
        (Caught("container.closed[GATEWAY-host-IPv4]"),),
        (CAGE, "container.closed[*]"),
        REPAIR,
    ),
    Breakage(
        "openclaw.no-way-back",
        "gateway",
        "The host has no router, and the container has a copy of the host's network, so it answers no client.",
        "ip route del default; " + caged(r"s/^\(Network=.*\),-a,.*/\1/"),
        (Caught("host.services[HOST]"), Caught("vpn.granted[CLIENT-HOST]"), Caught("message.answered[CLIENT]")),
        ("message.*",),
        REPAIR,
        # Many houses have no router, so the deployment repairs this without one.
        settled="networkctl reconfigure host0",
    ),
    Breakage(
        "openclaw.web-fetch",
        "gateway",
        "The agent may fetch web pages.",
        configured('it["tools"]["web"]["fetch"]["enabled"] = True'),
        (Caught("openclaw.settings[HOST]", "fetch"),),
        (),
        REPAIR,
    ),
    Breakage(
        "openclaw.guessing-allowed",
        "gateway",
        "The gateway does not slow down people who try to guess its token.",
        configured('del it["gateway"]["auth"]["rateLimit"]'),
        (Caught("openclaw.settings[HOST]", "rateLimit"),),
        (),
        REPAIR,
    ),
    Breakage(
        "openclaw.cloud-plugin",
        "gateway",
        "A plugin for the models of a cloud is allowed.",
        configured('it["plugins"]["allow"].append("openai"); it["plugins"]["deny"].remove("openai")'),
        (Caught("openclaw.settings[HOST]", "plugins"),),
        (),
        REPAIR,
    ),
    Breakage(
        "openclaw.image-swapped",
        "gateway",
        "Another image has the name of the one that the deployment has loaded.",
        f"run='systemd-run --quiet --user --machine=openclaw@ --pipe --wait --collect'; "
        "image=$($run podman inspect --format '{{.ImageName}}' openclaw); "
        f"$run podman commit --quiet openclaw localhost/other; $run podman tag localhost/other $image; {RESTART}",
        (Caught(CAGE, "the image that was deployed"),),
        (),
        ("OpenClaw | Image", *REPAIR),
    ),
    Breakage(
        "openclaw.without-tls",
        "gateway",
        "The gateway speaks plain HTTP.",
        configured('it["gateway"]["tls"]["enabled"] = False', "sleep 30"),
        (
            Caught("openclaw.settings[HOST]", "tls"),
            Caught("ca.server[GATEWAY-gateway]"),
            Caught("vpn.granted[CLIENT-HOST]"),
            Caught("message.answered[CLIENT]"),
        ),
        ("host.services[HOST]", "message.*", "openclaw.*", "container.*"),
        REPAIR,
    ),
    Breakage(
        "openclaw.model-unlimited",
        "gateway",
        "The gateway expects four times the context with which the model was loaded.",
        configured(
            'm = it["models"]["providers"]["ollama"]["models"][0]; m["contextWindow"] *= 4; m["contextTokens"] *= 4'
        ),
        (Caught("openclaw.settings[HOST]", "contextWindow"),),
        (),
        REPAIR,
    ),
    Breakage(
        "openclaw.archives-open",
        "gateway",
        "Every account can enter the folder into which OpenClaw packs all conversations for a backup.",
        f"chmod 0755 {ARCHIVES}",
        (Caught("host.secret_files[HOST]", ARCHIVES),),
        (),
        ("OpenClaw | Folders, token",),
    ),
    Breakage(
        "openclaw.impostor",
        "gateway",
        "Another program answers on the gateway's port.",
        f"{STOP_OPENCLAW}; {listen(18789)}",
        (Caught("host.owners[HOST]", "18789"), Caught("vpn.granted[CLIENT-HOST]"), Caught("message.answered[CLIENT]")),
        AWAY,
        by_hand=Repair(
            "The deployment names the program that uses the port, and stops; it ends no foreign program.",
            "systemctl stop squatter",
        ),
        repaired_by=REPAIR,
    ),
    Breakage(
        "openclaw.token-guessable",
        "gateway",
        "The gateway's token is a word that people can guess.",
        f"printf sesame > /run/token; cat /run/token > /etc/openclaw/token; rm /run/token; {RESTART}",
        (Caught("host.secret_files[HOST]", "can be guessed"),),
        ("host.secret_traces[HOST]",),
        ("OpenClaw | Folders, token", *REPAIR),
    ),
    Breakage(
        "openclaw.second-container",
        "gateway",
        "Another container runs as the gateway's account, with a network.",
        "run='systemd-run --quiet --user --machine=openclaw@ --collect'; "
        "image=$($run --pipe --wait podman inspect --format '{{.ImageName}}' openclaw); "
        # In a unit of its own: processes that a unit's command leaves behind end with that unit.
        "$run podman run --name other --network pasta --pids-limit 0 --entrypoint sleep $image 86400; "
        + until("$run --pipe --wait podman ps --format {{.Names}} | grep -qx other"),
        (Caught(CAGE, "no other container"),),
        (),
        by_hand=Repair(
            "Somebody has started the container by hand as this account; the deployment ends no foreign program.",
            until(
                "systemd-run --quiet --user --machine=openclaw@ --pipe --wait --collect "
                "podman rm --force --time 0 other >/dev/null 2>&1"
            ),
        ),
    ),
)
