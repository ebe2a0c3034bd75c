"""The folders on a host in which large files arrive. Each is on the disk to which its files go."""

from __future__ import annotations

#: For programs and other small files.
INCOMING = "/var/lib/private-ai/incoming"
#: For models and the image: a folder in the home of the account that gets them. It exists only while a file is being
#: sent. Ollama looks only into `models`, and Podman only into `.local`, so neither reads it.
_BESIDE = ".private-ai-incoming"
MODELS_INCOMING = f"/var/lib/ollama/{_BESIDE}"
IMAGE_INCOMING = f"/var/lib/openclaw/{_BESIDE}"
