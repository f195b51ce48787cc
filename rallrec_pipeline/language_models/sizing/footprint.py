"""Memory that a use of the LLM takes, from the model's sizes and the settings. Loads nothing.

Each part is what the engine on transformers holds at its fullest: weights; the buffers of one layer of a forward pass
over a batch of tokens; keys and values; for tuning what each layer keeps for the backward pass, and the adapter with
its gradients and moments.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from rallrec_pipeline.language_models.kernels.batching import HELD
from rallrec_pipeline.language_models.sizing.architecture import Architecture
from rallrec_pipeline.settings import ModelSettings, Settings

Use = Literal["generate", "encode", "score", "tune"]
USES: tuple[Use, ...] = ("generate", "encode", "score", "tune")

BUDGETS = ("model", "tuning")  # sections with a token budget

STORED_BYTES = 2  # of a weight in the file
TYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
PROGRAM_BYTES = {"cpu": 600 << 20, "cuda": 900 << 20}
"""Python with its packages, or the context of a GPU with its libraries."""
SERVED_PROGRAM_BYTES = {"cpu": 1 << 30, "cuda": 2 << 30}
"""The same for a process of vLLM with its captured graphs; assumed, not measured."""
SERVED_TOKENS = 8192  # vLLM reads so many at once, unless it is told otherwise

# Tokens of a pass where the settings do not say: on a GPU as many as PASS_BYTES hold, within these bounds.
PASS_BYTES = 4 << 30
LEAST_TOKENS, MOST_TOKENS = 1024, 16384

# Numbers that a layer holds for each token, in units of the model's widths: in a forward pass one layer at a time holds
# them, for the backward pass all layers do. Measured with SmolLM2-135M's widths (docs/operate.md).
FORWARD_HIDDEN, FORWARD_INTERMEDIATE = 10, 3
BACKWARD_HIDDEN, BACKWARD_INTERMEDIATE = 14, 3
# bitsandbytes keeps the input of every product; with 16-bit weights norms and adapter hold float32 copies besides.
EIGHT_BIT_BACKWARD_HIDDEN, EIGHT_BIT_BACKWARD_INTERMEDIATE = 18, 4
# A CPU holds the scores of a layer's attention, in three forms, where they are few (`kernels/attention.py`).
MOST_SCORES, SCORE_BYTES = 1 << 22, 12
SCORED_HELD = HELD + 1  # a batch, each prompt of it with a copy of what it shares, and what a section's groups share
LOGIT_COPIES = 3  # logits, their scaled copy and its exponentials, all float32
ADAPTER_BYTES = 16  # a trained weight, its gradient and two moments, float32


@dataclass(frozen=True)
class Footprint:
    """What a use takes, in bytes, on the device that computes."""

    program: int
    weights: int
    activations: int
    cache: int = 0
    """Keys and values."""
    tuning: int = 0
    """Adapter, gradients, moments, and what is kept for the backward pass."""

    @property
    def total(self) -> int:
        """All parts."""
        return sum(asdict(self).values())


def footprint(
    use: Use, architecture: Architecture, settings: Settings, kind: str, prompt_tokens: float = 0
) -> Footprint:
    """What `use` takes on `cuda` or `cpu` with prompts of `prompt_tokens`.

    While weights are converted on a CPU they are in memory twice, which counts where it is more than the work takes.
    """
    model = settings.model
    width, tokens = type_bytes(model.dtype), _tokens_at_once(use, architecture, settings, kind, prompt_tokens)
    weights = weight_bytes(architecture, model)
    activations = width * tokens * _forward_numbers(architecture)
    cache = tuning = 0
    if kind == "cpu" and use != "tune":
        activations += min(MOST_SCORES, round(architecture.heads * tokens * prompt_tokens)) * SCORE_BYTES
    if use == "generate":
        sequences = settings.descriptions.batch_size
        held = round(prompt_tokens) + settings.descriptions.max_new_tokens
        cache = sequences * held * key_value_bytes(architecture, width)
        weights += architecture.vocabulary * architecture.hidden * width if kind == "cpu" else 0  # the packed head
        activations += sequences * architecture.vocabulary * 4 * LOGIT_COPIES
    elif use == "score":
        cache = SCORED_HELD * tokens * key_value_bytes(architecture, width)
    elif use == "tune":
        tuning = adapter_parameters(architecture, settings) * ADAPTER_BYTES
        tuning += architecture.layers * width * tokens * _backward_numbers(architecture, width, model.load_in_8bit)
        if kind == "cpu" and not model.load_in_8bit:  # weights packed for gradients, too
            weights += architecture.linear_parameters * width
    loading = architecture.parameters * STORED_BYTES if kind == "cpu" and width != STORED_BYTES else 0
    activations = max(activations, loading - cache - tuning)
    return Footprint(PROGRAM_BYTES[kind], weights, activations, cache, tuning)


def served_footprint(architecture: Architecture, settings: Settings, kind: str, prompt_tokens: float) -> Footprint:
    """The least that vLLM takes on each device: its share of the weights, and keys and values of one sequence."""
    model, width = settings.model, type_bytes(settings.model.dtype)
    held = round(prompt_tokens) + settings.descriptions.max_new_tokens
    return Footprint(
        program=SERVED_PROGRAM_BYTES[kind],
        weights=weight_bytes(architecture, model, eight_bit=False) // model.tensor_parallel,
        activations=width * SERVED_TOKENS * _forward_numbers(architecture),
        cache=held * key_value_bytes(architecture, width) // model.tensor_parallel,
    )


def weight_bytes(architecture: Architecture, model: ModelSettings, eight_bit: bool | None = None) -> int:
    """Bytes of the weights; in 8 bits only the matrices within the layers are smaller."""
    width = type_bytes(model.dtype)
    of_linear = 1 if (model.load_in_8bit if eight_bit is None else eight_bit) else width
    return architecture.linear_parameters * of_linear + architecture.other_parameters * width


def key_value_bytes(architecture: Architecture, width: int) -> int:
    """Keys and values of one token in all layers."""
    return 2 * architecture.layers * architecture.key_width * width


def adapter_parameters(architecture: Architecture, settings: Settings) -> int:
    """Trained weights of a LoRA adapter on the modules that the settings name."""
    widths = {
        "q_proj": (architecture.hidden, architecture.query_width),
        "k_proj": (architecture.hidden, architecture.key_width),
        "v_proj": (architecture.hidden, architecture.key_width),
        "o_proj": (architecture.query_width, architecture.hidden),
        "gate_proj": (architecture.hidden, architecture.intermediate),
        "up_proj": (architecture.hidden, architecture.intermediate),
        "down_proj": (architecture.intermediate, architecture.hidden),
    }
    both = sum(sum(widths.get(name, (0, 0))) for name in settings.tuning.modules)
    return settings.tuning.rank * architecture.layers * both


def batch_that_fits(use: Use, architecture: Architecture, settings: Settings, kind: str, free: int) -> int:
    """The largest token budget with which `use` fits into `free` bytes; 0 where none does."""
    small, large = (footprint(use, architecture, _with_budget(settings, n), kind).total for n in (1024, 2048))
    per_token = max((large - small) / 1024, 1.0)
    return max(0, int((free - small) / per_token) + 1024)


def default_budget(use: Use, architecture: Architecture, width: int, kind: str, eight_bit: bool = False) -> int:
    """Tokens of a pass where the settings do not say; `width` is the bytes of a number."""
    if kind == "cpu":
        return cpu_budget(use, width, eight_bit)
    held = SCORED_HELD * key_value_bytes(architecture, width)
    if use == "tune":
        held = architecture.layers * width * _backward_numbers(architecture, width, eight_bit)
    fitting = PASS_BYTES // (held + width * _forward_numbers(architecture))
    return max(LEAST_TOKENS, min(MOST_TOKENS, fitting))


def cpu_budget(use: Use, width: int, eight_bit: bool = False) -> int:
    """The same on a CPU. Larger passes of tuning pay; in 16 bits they take no more than smaller ones in float32."""
    return 2 * LEAST_TOKENS if use == "tune" and width == 2 and not eight_bit else LEAST_TOKENS


def _with_budget(settings: Settings, tokens: int) -> Settings:
    changed = {name: getattr(settings, name).model_copy(update={"tokens_per_batch": tokens}) for name in BUDGETS}
    return settings.model_copy(update=changed)


def type_bytes(dtype: str) -> int:
    """Bytes of a number; `auto` counts as float32, the larger one."""
    return TYPE_BYTES.get(dtype, 4)


def _tokens_at_once(use: Use, architecture: Architecture, settings: Settings, kind: str, prompt_tokens: float) -> int:
    """Tokens of one forward pass; a prompt that is longer than the budget is a batch of its own."""
    if use == "generate":  # all prompts of a batch are read together
        return max(1, round(settings.descriptions.batch_size * prompt_tokens))
    model = settings.model
    chosen = settings.tuning.tokens_per_batch if use == "tune" else model.tokens_per_batch
    budget = chosen or default_budget(use, architecture, type_bytes(model.dtype), kind, model.load_in_8bit)
    return max(budget, round(prompt_tokens))


def _forward_numbers(architecture: Architecture) -> int:
    return FORWARD_HIDDEN * max(architecture.hidden, architecture.query_width) + (
        FORWARD_INTERMEDIATE * architecture.intermediate
    )


def _backward_numbers(architecture: Architecture, width: int, eight_bit: bool) -> int:
    hidden, intermediate = BACKWARD_HIDDEN, BACKWARD_INTERMEDIATE
    if eight_bit and width == 2:
        hidden, intermediate = EIGHT_BIT_BACKWARD_HIDDEN, EIGHT_BIT_BACKWARD_INTERMEDIATE
    return hidden * max(architecture.hidden, architecture.query_width) + intermediate * architecture.intermediate
