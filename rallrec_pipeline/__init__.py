"""RALLRec Pipeline: retrieval-augmented, LoRA-tuned LLM recommendation as Dagster assets."""

__version__ = "0.1.0"
