"""The gateway and its container."""

from __future__ import annotations

from tests.lab.breakages.breakage import Breakage, Caught, Repair
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
    """The container started anew after a sed command on its Quadlet."""
    return f"{edit(QUADLET, change)}; {RESTART}"


def configured(change: str, wait: str = OPENCLAW_READY) -> str:
    """The gateway started anew after a Python statement on its configuration, `it`."""
    return f"{edit_json(OPENCLAW_JSON, change)}; {RESTART_OPENCLAW}; {wait}"


#: What is true as well when the container does not run.
AWAY = (
    "openclaw.*[HOST]",
    "container.*",
    "message.*",
    "vpn.granted[*-HOST]",
    "ca.server[GATEWAY-gateway]",
    "host.units[HOST]",
    "host.listeners[HOST]",
    "host.services[HOST]",
    # Which model the gateway asks for is read inside the container.
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
        "The container may write to its own system.",
        caged("s/^ReadOnly=true/ReadOnly=false/"),
        (Caught(CAGE, "not true:.*read-only"),),
        (),
        REPAIR,
    ),
    Breakage(
        "openclaw.drop-in",
        "gateway",
        "A drop-in beside the container's file waits for the next start, and gives the container the host's network.",
        "folder=$(dirname $(echo /etc/containers/systemd/users/*/openclaw.container))/openclaw.container.d; "
        "install -d $folder; printf '[Container]\\nNetwork=host\\n' > $folder/wide.conf",
        (Caught("host.drop_ins[HOST]", "openclaw.container is changed by .*/wide.conf"),),
        by_hand=Repair(
            "Somebody wrote it on purpose, so a run takes nothing away: it stops before any change and says how.",
            "rm -r /etc/containers/systemd/users/*/openclaw.container.d",
        ),
        sample="single",
    ),
    Breakage(
        "openclaw.capability",
        "gateway",
        "The container has a capability: it may change its network.",
        caged("s/^DropCapability=all/DropCapability=all\\nAddCapability=NET_ADMIN/"),
        (Caught(CAGE, "not true:.*no capabilities"),),
        (),
        REPAIR,
        sample="single",
    ),
    Breakage(
        "openclaw.own-site",
        "gateway",
        "The name of its makers' site is looked up outside the container.",
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
        "The container can give orders to the engine that runs it.",
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
        "The host has no router, and the container a copy of its network: it answers no client.",
        "ip route del default; " + caged(r"s/^\(Network=.*\),-a,.*/\1/"),
        (Caught("host.services[HOST]"), Caught("vpn.granted[CLIENT-HOST]"), Caught("message.answered[CLIENT]")),
        ("message.*",),
        REPAIR,
        # Many houses have no router; the deployment does without one.
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
        "The gateway does not slow down who guesses its token.",
        configured('del it["gateway"]["auth"]["rateLimit"]'),
        (Caught("openclaw.settings[HOST]", "rateLimit"),),
        (),
        REPAIR,
    ),
    Breakage(
        "openclaw.cloud-plugin",
        "gateway",
        "A plugin for a cloud's models is allowed.",
        configured('it["plugins"]["allow"].append("openai"); it["plugins"]["deny"].remove("openai")'),
        (Caught("openclaw.settings[HOST]", "plugins"),),
        (),
        REPAIR,
    ),
    Breakage(
        "openclaw.image-swapped",
        "gateway",
        "Another image has the name of the one that was laid down.",
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
        "The gateway counts on four times the context that the model was loaded with.",
        configured(
            'm = it["models"]["providers"]["ollama"]["models"][0]; m["contextWindow"] *= 4; m["contextTokens"] *= 4'
        ),
        (Caught("openclaw.settings[HOST]", "contextWindow"),),
        (),
        REPAIR,
    ),
    Breakage(
        "openclaw.impostor",
        "gateway",
        "Another program answers on the gateway's port.",
        f"{STOP_OPENCLAW}; {listen(18789)}",
        (Caught("host.owners[HOST]", "18789"), Caught("vpn.granted[CLIENT-HOST]"), Caught("message.answered[CLIENT]")),
        AWAY,
        by_hand=Repair(
            "The deployment names the program that has the port, and stops; it ends no foreign program.",
            "systemctl stop squatter",
        ),
        repaired_by=REPAIR,
    ),
    Breakage(
        "openclaw.token-guessable",
        "gateway",
        "The gateway's token is a word.",
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
        # As a unit of its own: what a command leaves behind ends with the command.
        "$run podman run --name other --network pasta --pids-limit 0 --entrypoint sleep $image 86400; "
        + until("$run --pipe --wait podman ps --format {{.Names}} | grep -qx other"),
        (Caught(CAGE, "no other container"),),
        (),
        by_hand=Repair(
            "What somebody started as this account by hand is not the deployment's; it ends no foreign program.",
            until(
                "systemd-run --quiet --user --machine=openclaw@ --pipe --wait --collect "
                "podman rm --force --time 0 other >/dev/null 2>&1"
            ),
        ),
    ),
)
