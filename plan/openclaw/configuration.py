"""OpenClaw's configuration: one gateway, local models only, everything that runs commands or phones home off.

Source of the keys: OpenClaw 2026.9.6's configuration reference; every object of it refuses unknown keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plan.engine.want import Account, Component
from plan.house.house import House, Member
from plan.ollama.model_choice import Choice
from plan.openclaw import time_limits
from plan.openclaw.model_entry import GatewayLimits, gateway_limits

ACCOUNT = "openclaw"
#: The container's address, its prefix, and its router, on every host. They belong to no network (RFC 3927); pasta takes
#: them, too, where a host has no network (passt(1)). Without them pasta copies the host's network, and that has a
#: router only where the host has one. A container without a router answers only its own network, not the VPN.
CONTAINER_ADDRESS, CONTAINER_PREFIX, CONTAINER_ROUTER = "169.254.2.1", 16, "169.254.2.2"
#: What a host is asked for the account's number.
WHO = Component(accounts=(Account(ACCOUNT, "/var/lib/openclaw"),))
#: Plugins that come with OpenClaw and that `plugins.allow` alone leaves on.
DENIED_PLUGINS = (
    "a2a",
    "alibaba",
    "anthropic",
    "azure-speech",
    "bonjour",
    "browser",
    "clawrouter",
    "copilot-proxy",
    "deepgram",
    "elevenlabs",
    "fal",
    "geolocation",
    "github",
    "github-copilot",
    "google",
    "huggingface",
    "litellm",
    "lmstudio",
    "microsoft",
    "microsoft-foundry",
    "minimax",
    "nvidia",
    "openai",
    "opencode-go",
    "openrouter",
    "reef",
    "runway",
    "senseaudio",
    "sglang",
    "telegram",
    "together",
    "tts-local-cli",
    "vllm",
    "xai",
)


#: What the container may use at most. Node's heap limit is 1.5 GiB; the rest is buffers and native code.
MEMORY_GIB = 2
PIDS = 512
#: Inside the container OpenClaw's account is the image's user, which is no administrator there either.
USER_NAMESPACE = "keep-id:uid=1000,gid=1000"
#: Sites of OpenClaw's makers that the program asks without being told to; their names lead nowhere in the container.
OWN_SITES = ("clawhub.ai",)
#: Where the gateway's host keeps the id of the image that was laid down.
IMAGE_RECORD = "/var/lib/private-ai/openclaw.image"


@dataclass(frozen=True)
class ModelServer:
    """One Ollama as the gateway sees it: the provider's id, its base URL without /v1, and the model it serves."""

    provider: str
    url: str
    choice: Choice


def ollama_host(gateway: Member, member: Member) -> str:
    """What a model host is called inside a gateway's container.

    OpenClaw takes an Ollama for a local one, which needs no key, only by loopback, a private address or a name below
    .local, and Ollama's own host check refuses VPN addresses. So a model host on another machine gets a name that only
    the container knows.
    """
    return "127.0.0.1" if member == gateway else f"{member.name}.local"


def model_servers(house: House, gateway: Member, choices: Mapping[str, Choice]) -> list[ModelServer]:
    """The model servers of a house as a gateway is told about them. `choices` by host name."""
    servers: list[ModelServer] = []
    for member in house.with_role("model_hosts"):
        url = f"http://{ollama_host(gateway, member)}:{house.port('ollama')}"
        servers.append(ModelServer("ollama" if not servers else f"ollama-{member.name}", url, choices[member.name]))
    return servers


def openclaw_config(house: House, gateway: Member, servers: Sequence[ModelServer]) -> dict[str, Any]:
    """The content of a gateway's openclaw.json."""
    port = house.port("openclaw")
    # The exact URL people open the Control UI by.
    origins = [f"https://{house.vpn_name(gateway)}:{port}"]
    told = [gateway_limits(server.choice) for server in servers]
    names = [f"{server.provider}/{server.choice.entry.name}" for server in servers]
    defaults: dict[str, Any] = {
        "model": {"primary": names[0], "fallbacks": names[1:]},
        "workspace": "/home/node/.openclaw/workspace",
        "skipBootstrap": True,
        "timeoutSeconds": time_limits.RUN,
        # From three quarters of the context on OpenClaw has the model sum up older messages. The share is fixed there.
        "compaction": {"timeoutSeconds": time_limits.COMPACTION},
        # One model that answers one after the other.
        "maxConcurrent": 1,
        "subagents": {"maxConcurrent": 1},
        "heartbeat": {"every": "0m"},
        # The container is the sandbox; this feature would want an engine's socket.
        "sandbox": {"mode": "off"},
    }
    if told[0].context_injection:
        defaults["contextInjection"] = told[0].context_injection
    return {
        "gateway": _gateway(port, origins),
        "secrets": {"providers": {"token": {"source": "file", "path": "/etc/openclaw/token", "mode": "singleValue"}}},
        "models": {
            "mode": "replace",
            "catalogRefresh": {"enabled": False},
            "providers": {
                server.provider: _provider(server, limit) for server, limit in zip(servers, told, strict=True)
            },
        },
        "agents": {"defaults": defaults},
        "memory": {"search": {"enabled": False}},
        # Else the main conversation is told of every other one that somebody begins, and its model has to read it.
        "session": {"notifyOnCreate": False},
        "tools": {
            "profile": "minimal",
            "deny": ["group:runtime", "group:fs", "group:web", "group:ui", "group:automation", "group:nodes"],
            "web": {"search": {"enabled": False}, "fetch": {"enabled": False}},
            "exec": {"host": "gateway", "mode": "deny"},
            "elevated": {"enabled": False},
            "fs": {"workspaceOnly": True},
            "sessions": {"visibility": "self"},
            "agentToAgent": {"enabled": False},
            "links": {"enabled": False},
        },
        "plugins": {"allow": ["ollama"], "slots": {"memory": "none"}, "deny": list(DENIED_PLUGINS)},
        "browser": {"enabled": False},
        "cron": {"enabled": False},
        "hooks": {"enabled": False},
        "acp": {"enabled": False},
        "desktop": {"host": {"enabled": False}},
        "discovery": {"mdns": {"mode": "off"}},
        "update": {"checkOnStart": False, "auto": {"enabled": False}},
        "telemetry": {"enabled": False},
        "skills": {"allowBundled": []},
        "commands": dict.fromkeys(("config", "mcp", "plugins", "debug", "bash", "restart"), False),
        "logging": {"level": "info", "consoleStyle": "json"},
    }


def _gateway(port: int, origins: Sequence[str]) -> dict[str, Any]:
    return {
        "mode": "local",
        "port": port,
        # All interfaces of the container; which of the host's get here is the firewall's business.
        "bind": "lan",
        "auth": {
            "mode": "token",
            "allowTailscale": False,
            "token": {"source": "file", "provider": "token", "id": "value"},
            "rateLimit": {"maxAttempts": 10, "windowMs": 60000, "lockoutMs": 300000, "exemptLoopback": False},
        },
        "tls": {
            "enabled": True,
            "autoGenerate": False,
            "certPath": "/etc/openclaw/tls/cert.pem",
            "keyPath": "/etc/openclaw/tls/key.pem",
        },
        "controlUi": {
            "enabled": True,
            "allowedOrigins": list(origins),
            "communityInvite": False,
            "automaticallyFetchFavicons": False,
        },
        "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
        "nodes": {"browser": {"mode": "off"}, "pairing": {"autoApproveLocal": False, "sshVerify": False}},
        "terminal": {"enabled": False},
        "cliAgents": {"enabled": False},
        "tailscale": {"mode": "off"},
        "reload": {"mode": "off"},
    }


def _provider(server: ModelServer, told: GatewayLimits) -> dict[str, Any]:
    params: dict[str, Any] = {
        "num_ctx": told.context,
        # As the server's own setting: another value would replace it.
        "keep_alive": -1,
        # OpenClaw does not send maxTokens to Ollama; without this a small model fills the whole context.
        "num_predict": told.max_tokens,
    }
    if told.temperature is not None:
        params["temperature"] = told.temperature
    if told.repeat_penalty is not None:
        params["repeat_penalty"] = told.repeat_penalty
    name = server.choice.entry.name
    return {
        # The native API: the OpenAI dialect has no way to say num_ctx, and breaks tool calls.
        "api": "ollama",
        "baseUrl": server.url,
        # A marker that means "no key", not a secret.
        "apiKey": "ollama-local",
        "timeoutSeconds": time_limits.MODEL,
        "models": [
            {
                "id": name,
                "name": name,
                "reasoning": told.reasoning,
                "input": ["text"],
                "contextWindow": told.context,
                "contextTokens": told.context,
                "maxTokens": told.max_tokens,
                "compat": {"supportsTools": told.tools},
                "params": params,
            }
        ],
    }
