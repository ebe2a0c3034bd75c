"""OpenClaw's configuration: one gateway and only local models. All that runs commands or contacts other servers is off.

Source of the keys: the configuration reference of OpenClaw 2026.9.6. OpenClaw refuses unknown keys in every object.
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
#: The container's address, prefix and router, the same on every host. They belong to no real network (RFC 3927).
#: Without them pasta copies the host's network (passt(1)), which has a router only if the host has one. A container
#: without a router answers only its own network, not the VPN. With these values pasta also works on a host without a
#: network.
CONTAINER_ADDRESS, CONTAINER_PREFIX, CONTAINER_ROUTER = "169.254.2.1", 16, "169.254.2.2"
#: The want with which a run asks a host for the number of OpenClaw's account.
WHO = Component(accounts=(Account(ACCOUNT, "/var/lib/openclaw"),))
#: Plugins that come with OpenClaw, and that stay on if only `plugins.allow` is set.
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


#: The container's limits. Of the memory, 1.5 GiB are Node's heap limit; buffers and native code need the rest.
MEMORY_GIB = 2
PIDS = 512
#: Maps OpenClaw's account to the image's own user inside the container, which has no administrator's rights there.
USER_NAMESPACE = "keep-id:uid=1000,gid=1000"
#: Sites of OpenClaw's makers that the program contacts by itself. In the container, their names lead to no server.
OWN_SITES = ("clawhub.ai",)
#: The file in which the gateway's host keeps the id of the image that a run has loaded.
IMAGE_RECORD = "/var/lib/private-ai/openclaw.image"


@dataclass(frozen=True)
class ModelServer:
    """One Ollama in the gateway's configuration: the provider's id, the base URL without /v1, and its model."""

    provider: str
    url: str
    choice: Choice


def ollama_host(gateway: Member, member: Member) -> str:
    """The name of a model host inside a gateway's container.

    OpenClaw treats an Ollama as a local one, which needs no key, only if its address is loopback, private, or a name
    below .local. And Ollama's own check of the host name refuses VPN addresses. So a model host on another machine gets
    a name that only the container knows.
    """
    return "127.0.0.1" if member == gateway else f"{member.name}.local"


def model_servers(house: House, gateway: Member, choices: Mapping[str, Choice]) -> list[ModelServer]:
    """The model servers of a house for a gateway's configuration. `choices`: host name -> choice."""
    servers: list[ModelServer] = []
    for member in house.with_role("model_hosts"):
        url = f"http://{ollama_host(gateway, member)}:{house.port('ollama')}"
        servers.append(ModelServer("ollama" if not servers else f"ollama-{member.name}", url, choices[member.name]))
    return servers


def openclaw_config(house: House, gateway: Member, servers: Sequence[ModelServer]) -> dict[str, Any]:
    """The content of a gateway's openclaw.json."""
    port = house.port("openclaw")
    # The exact address at which people open the Control UI.
    origins = [f"https://{house.vpn_name(gateway)}:{port}"]
    told = [gateway_limits(server.choice) for server in servers]
    names = [f"{server.provider}/{server.choice.entry.name}" for server in servers]
    defaults: dict[str, Any] = {
        "model": {"primary": names[0], "fallbacks": names[1:]},
        "workspace": "/home/node/.openclaw/workspace",
        "skipBootstrap": True,
        "timeoutSeconds": time_limits.RUN,
        # When three quarters of the context are full, OpenClaw has the model summarise older messages. OpenClaw has no
        # setting for this share.
        "compaction": {"timeoutSeconds": time_limits.COMPACTION},
        # The model answers one request after the other.
        "maxConcurrent": 1,
        "subagents": {"maxConcurrent": 1},
        "heartbeat": {"every": "0m"},
        # The container is the sandbox. This feature would need the socket of a container engine.
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
        # Otherwise OpenClaw adds a note about each new conversation to the main one, and the model has to read it.
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
        # All interfaces of the container. The host's firewall decides who can connect.
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
        # The same value as in the server's own setting, because this value replaces it.
        "keep_alive": -1,
        # OpenClaw does not send maxTokens to Ollama. Without this limit a small model writes until the context is full.
        "num_predict": told.max_tokens,
    }
    if told.temperature is not None:
        params["temperature"] = told.temperature
    if told.repeat_penalty is not None:
        params["repeat_penalty"] = told.repeat_penalty
    name = server.choice.entry.name
    return {
        # Ollama's own API. Its OpenAI-compatible API has no num_ctx, and breaks tool calls.
        "api": "ollama",
        "baseUrl": server.url,
        # OpenClaw's word for "no key". It is not a secret.
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
