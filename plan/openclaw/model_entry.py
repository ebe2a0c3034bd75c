"""The values for a model in the gateway's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plan.ollama.model_choice import Choice


@dataclass(frozen=True)
class GatewayLimits:
    """The values of the gateway's model entry. None: the model's own default stays.

    `context` becomes contextWindow, contextTokens and params.num_ctx, and goes into Ollama's unit. `max_tokens` becomes
    maxTokens and params.num_predict. `context_injection` becomes agents.defaults.contextInjection. `tools` becomes
    compat.supportsTools.
    """

    context: int
    max_tokens: int
    temperature: float | None
    repeat_penalty: float | None
    context_injection: Literal["never"] | None
    tools: bool
    reasoning: bool


def gateway_limits(choice: Choice) -> GatewayLimits:
    """The values for the chosen model.

    Below 0.5B: values with which SmolLM2-135M answers and then stops (measured; with its default values it writes until
    the context is full). Below 3B: the model's own sampling, a short answer, and no workspace files in the prompt.
    Above: an answer may fill an eighth of the context, but 4096 tokens at most (OpenClaw's own example for 32768).
    """
    entry, context = choice.entry, choice.context
    tiny, small = entry.parameters_b < 0.5, entry.parameters_b < 3
    return GatewayLimits(
        context=context,
        max_tokens=96 if tiny else min(1024 if small else 4096, context // 8),
        temperature=0.1 if tiny else None,
        repeat_penalty=1.15 if tiny else None,
        context_injection="never" if small else None,
        tools=entry.tools,
        reasoning=entry.reasoning,
    )
