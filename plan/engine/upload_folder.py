"""Where large files lie while they are on their way to their place on a host: on the disk where they end up."""

from __future__ import annotations

#: For programs and other small things.
INCOMING = "/var/lib/private-ai/incoming"
#: For what goes to an account's disk, in the account's own folder. Only there while something is sent. Neither Ollama,
#: which looks into `models`, nor Podman, which looks into `.local`, takes it for its own.
_BESIDE = ".private-ai-incoming"
MODELS_INCOMING = f"/var/lib/ollama/{_BESIDE}"
IMAGE_INCOMING = f"/var/lib/openclaw/{_BESIDE}"
