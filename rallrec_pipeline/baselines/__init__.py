"""Predictors without an LLM, which a reader needs to judge whether the LLM earns its cost."""
