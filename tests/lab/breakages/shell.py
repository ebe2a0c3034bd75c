"""Pieces of shell that several breakages use. Each returns when it has taken effect."""

from __future__ import annotations

CONTROL = "https://headscale.house.internal"


def until(condition: str, seconds: int = 60) -> str:
    """Wait until a condition is true. If it does not become true in time, the breakage fails and prints the condition.

    When it was true once, it is not tried again: on a busy machine a second answer could come too late.
    """
    return (
        f"holds() {{ {condition}; }}; end=$(($(date +%s) + {seconds})); "
        "until holds; do if [ $(date +%s) -gt $end ]; then echo waited in vain: >&2; declare -f holds >&2; exit 1; fi; "
        "sleep 0.5; done"
    )


def edit(path: str, *commands: str) -> str:
    """Edit a file with sed. The file keeps its owner and mode. If nothing changes, that is an error."""
    script = " ".join(f"-e '{command}'" for command in commands)
    return (
        f"file=$(echo {path}); sed {script} $file > /run/edited; "
        "if cmp -s /run/edited $file; then echo nothing to edit >&2; exit 1; fi; cat /run/edited > $file"
    )


def edit_json(path: str, change: str) -> str:
    """Run a Python statement on `it`, the content of a JSON file. The file keeps its owner and mode."""
    program = (
        f'import json; it = json.load(open("{path}")); {change}; text = json.dumps(it); open("{path}", "w").write(text)'
    )
    return f"python3 -c '{program}'"


#: Wait until the control server answers.
ANSWERS = until("headscale users list -o json >/dev/null 2>&1")
#: Wait until every node is connected to the control server. A node tries to connect at least every half minute.
CONNECTED = until(
    "headscale nodes list -o json | python3 -c "
    "'import json, sys; sys.exit(not all(node.get(\"online\") for node in json.load(sys.stdin)))'",
)
RESTART_HEADSCALE = "; ".join(("systemctl restart headscale", ANSWERS, CONNECTED, "sleep 5"))

RESTART_OLLAMA = "; ".join(
    (
        "systemctl daemon-reload",
        "systemctl restart ollama",
        until("curl --silent --fail --output /dev/null http://127.0.0.1:11434/api/version"),
    )
)

_OPENCLAW = "systemctl --user --machine=openclaw@"
RESTART_OPENCLAW = f"{_OPENCLAW} daemon-reload; {_OPENCLAW} restart openclaw"
OPENCLAW_READY = until(
    "curl --silent --insecure --max-time 5 https://127.0.0.1:18789/readyz | grep -q ready.:true", seconds=120
)
STOP_OPENCLAW = f"{_OPENCLAW} stop openclaw"

QUADLET = "/etc/containers/systemd/users/*/openclaw.container"
OPENCLAW_JSON = "/etc/openclaw/openclaw.json"
STORE = "/var/lib/ollama/models"


def listen(port: int, unit: str = "squatter") -> str:
    """Start a foreign program that listens on all IPv4 and IPv6 addresses."""
    program = (
        "import socket, time; s = socket.create_server((chr(58) * 2, "
        f"{port}), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64); time.sleep(86400)"
    )
    listening = until(f"ss -Hltn sport = :{port} | grep -q LISTEN")
    return f"systemd-run --quiet --unit={unit} python3 -c '{program}'; {listening}"
