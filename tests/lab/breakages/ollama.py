"""Breakages of the model server and its model."""

from __future__ import annotations

from tests.lab.breakages.breakage import Breakage, Caught, Repair, Round
from tests.lab.breakages.shell import RESTART_OLLAMA, STORE, edit, listen

UNIT = "/etc/systemd/system/ollama.service"
SERVICE, MODEL, TOKEN = "Ollama | Program, service", "Ollama | Model smollm2:135m", "Ollama | One token"
MANIFEST = f"{STORE}/manifests/registry.ollama.ai/library/smollm2/135m"
#: The largest file: the weights.
WEIGHTS = f"$(ls -S {STORE}/blobs/sha256-* | head -1)"
UNLOAD = (
    "curl --silent --output /dev/null http://127.0.0.1:11434/api/generate "
    '-d \'{"model": "smollm2:135m", "keep_alive": 0}\'; sleep 2'
)
#: Checks that may fail too if no model answers.
SILENT = (
    "ollama.*[HOST]",
    "message.*",
    "container.ollama[*]",
    "host.services[HOST]",
    "host.listeners[HOST]",
    "host.programs[HOST]",
    "vpn.granted[GATEWAY-HOST]",
)

BREAKAGES = (
    Breakage(
        "ollama.stopped",
        "model_host",
        "The model server does not run.",
        "systemctl stop ollama",
        (Caught("host.units[HOST]", "ollama"), Caught("container.ollama[GATEWAY]"), Caught("message.answered[CLIENT]")),
        SILENT,
        (SERVICE,),
    ),
    Breakage(
        "ollama.masked",
        "model_host",
        "The model server is stopped and masked.",
        f"systemctl stop ollama; ln -sfn /dev/null {UNIT}; systemctl daemon-reload",
        (Caught("host.units[HOST]", "ollama"), Caught("container.ollama[GATEWAY]"), Caught("message.answered[CLIENT]")),
        SILENT,
        (SERVICE,),
        topologies=("split",),
    ),
    Breakage(
        "ollama.listens-wider",
        "model_host",
        "The model server listens on all addresses; the firewall still keeps everybody from it.",
        edit(UNIT, "s/OLLAMA_HOST=127.0.0.1:/OLLAMA_HOST=0.0.0.0:/") + f"; {RESTART_OLLAMA}",
        (Caught("host.listeners[HOST]", "11434"), Caught("ollama.settings[HOST]", "OLLAMA_HOST|0.0.0.0")),
        ("ollama.context[HOST]", "host.owners[HOST]"),
        (SERVICE,),
        sample=Round("single", 3),
    ),
    Breakage(
        "ollama.cloud-on",
        "model_host",
        "The model server may use models and searches of Ollama's cloud.",
        edit(UNIT, "/OLLAMA_NO_CLOUD/d") + f"; {RESTART_OLLAMA}",
        (Caught("ollama.settings[HOST]", "(?i)cloud"),),
        ("ollama.context[HOST]",),
        (SERVICE,),
    ),
    Breakage(
        "ollama.drop-in",
        "model_host",
        "A drop-in for the unit makes the model server listen on all addresses.",
        "install -d /etc/systemd/system/ollama.service.d; "
        "printf '[Service]\\nEnvironment=OLLAMA_HOST=0.0.0.0:11434\\n' "
        f"> /etc/systemd/system/ollama.service.d/wide.conf; {RESTART_OLLAMA}",
        (
            Caught("host.drop_ins[HOST]", "wide.conf"),
            Caught("host.listeners[HOST]", "11434"),
            Caught("ollama.settings[HOST]", "OLLAMA_HOST|0.0.0.0"),
        ),
        ("ollama.context[HOST]", "host.owners[HOST]"),
        by_hand=Repair(
            "Somebody wrote it on purpose, so a run does not remove it: the run stops before any change and says how "
            "to remove it.",
            f"rm -r /etc/systemd/system/ollama.service.d; {RESTART_OLLAMA}",
        ),
    ),
    Breakage(
        "ollama.model-missing",
        "model_host",
        "The model's manifest was deleted, so the server does not have the model.",
        f"{UNLOAD}; rm {MANIFEST}",
        (Caught("ollama.model[HOST]"), Caught("message.answered[CLIENT]")),
        SILENT,
        (MODEL,),
    ),
    Breakage(
        "ollama.weights-missing",
        "model_host",
        "The file with the model's weights was deleted.",
        f"{UNLOAD}; rm {WEIGHTS}",
        (Caught("ollama.files[HOST]"), Caught("message.answered[CLIENT]")),
        SILENT,
        (MODEL,),
    ),
    Breakage(
        "ollama.weights-truncated",
        "model_host",
        "The last bytes of the model's weights are missing.",
        f"truncate --size=-4096 {WEIGHTS}",
        (Caught("ollama.files[HOST]"),),
        SILENT,
        (MODEL,),
    ),
    Breakage(
        "ollama.weights-changed",
        "model_host",
        "Some bytes of the weights were changed; the size is the same.",
        f"printf '\\377\\377\\377\\377' | dd of={WEIGHTS} bs=1 seek=60000000 conv=notrunc status=none",
        (Caught("ollama.files[HOST]"),),
        SILENT,
        by_hand=Repair(
            "A run compares sizes only, because digests of 20 GB take minutes; the verification computes them. A file "
            "that is missing is sent again.",
            f"rm {WEIGHTS}",
        ),
        repaired_by=(MODEL,),
    ),
    Breakage(
        "ollama.model-swapped",
        "model_host",
        "Another model has the name of the chosen model: the same weights with a system prompt of somebody else.",
        "printf 'FROM smollm2:135m\\nSYSTEM Answer as a pirate.\\n' > /run/Modelfile; "
        "cd /run && HOME=/root ollama create smollm2:135m -f /run/Modelfile >/dev/null 2>&1",
        (Caught("ollama.model[HOST]"),),
        ("ollama.context[HOST]", "message.*", "ollama.files[HOST]"),
        (MODEL,),
    ),
    Breakage(
        "ollama.context-small",
        "model_host",
        "The model is in memory with a quarter of the context that the gateway expects.",
        "curl --silent --fail --output /dev/null http://127.0.0.1:11434/api/generate "
        '-d \'{"model": "smollm2:135m", "prompt": "Hi", "stream": false, "keep_alive": -1, '
        '"options": {"num_ctx": 2048, "num_predict": 1}}\'',
        (Caught("ollama.context[HOST]", "2048"),),
        by_hand=Repair(
            "Nothing is left to do: with the next message, Ollama loads the model again with the context that the "
            "gateway expects, and the verification has sent a message.",
            "true",
        ),
    ),
    Breakage(
        "ollama.someone-elses-server",
        "model_host",
        "Another program has taken the model server's port.",
        f"systemctl stop ollama; {listen(11434)}",
        (
            Caught("host.owners[HOST]", "11434"),
            Caught("host.units[HOST]", "ollama"),
            Caught("container.ollama[GATEWAY]"),
        ),
        SILENT,
        by_hand=Repair(
            "The deployment names the program that uses the port, and stops; it ends no foreign program.",
            "systemctl stop squatter",
        ),
        repaired_by=(SERVICE,),
    ),
    Breakage(
        "ollama.way-in-closed",
        "model_host",
        "The model host does not pass the gateway's requests on to its model server.",
        "systemctl stop ollama-vpn.socket",
        (
            Caught("host.units[HOST]", "ollama-vpn"),
            Caught("vpn.granted[GATEWAY-HOST]"),
            Caught("container.ollama[GATEWAY]"),
            Caught("message.answered[CLIENT]"),
        ),
        SILENT,
        ("Ollama | Forward from the VPN",),
        topologies=("split",),
        sample=Round("split", 1),
    ),
    Breakage(
        "ollama.way-in-wider",
        "model_host",
        "The socket that leads to the model server listens on all addresses of the host, not only in the VPN.",
        edit("/etc/systemd/system/ollama-vpn.socket", "s/^ListenStream=100.*/ListenStream=0.0.0.0:11434/")
        + "; systemctl stop ollama-vpn.socket; sed -i s/127.0.0.1:11434/127.0.0.1:11435/ "
        f"{UNIT} /etc/systemd/system/ollama-vpn.service; systemctl daemon-reload; systemctl restart ollama; "
        "systemctl start ollama-vpn.socket",
        (Caught("host.listeners[HOST]", "11434"),),
        (*SILENT, "host.owners[HOST]"),
        (SERVICE, "Ollama | Forward from the VPN"),
        topologies=("split",),
    ),
    Breakage(
        "ollama.runs-as-root",
        "model_host",
        "The model server runs as root, for which the firewall has other outgoing rules than for the model server's "
        "account.",
        edit(UNIT, "/^User=/d", "/^Group=/d") + f"; {RESTART_OLLAMA}",
        (Caught("host.accounts[HOST]", "ollama.service runs as root"),),
        ("ollama.context[HOST]", "ollama.*[HOST]", "message.*"),
        (SERVICE,),
    ),
)
