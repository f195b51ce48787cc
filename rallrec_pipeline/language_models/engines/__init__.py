"""What runs the LLM: transformers, vLLM, Ray."""
