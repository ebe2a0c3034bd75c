"""What the gateway is told about the model that it uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plan.ollama.model_choice import Choice


@dataclass(frozen=True)
class GatewayLimits:
    """What the gateway's model entry says. None means: leave the model's own default.

    `context` goes to contextWindow, contextTokens and params.num_ctx, and to Ollama's unit;
    `max_tokens` to maxTokens and params.num_predict; `context_injection` to
    agents.defaults.contextInjection; `tools` to compat.supportsTools.
    """

    context: int
    max_tokens: int
    temperature: float | None
    repeat_penalty: float | None
    context_injection: Literal["never"] | None
    tools: bool
    reasoning: bool


def gateway_limits(choice: Choice) -> GatewayLimits:
    """What the gateway is told about the chosen model.

    Below 0.5B: the values under which SmolLM2-135M answers and stops (measured; with default values it
    rambles until the context is full). Below 3B: the model's own sampling, a short answer, and no workspace
    files in the prompt. Above: an answer may fill an eighth of the context, 4096 tokens at most (OpenClaw's
    own example for 32768).
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
