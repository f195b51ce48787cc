"""Instruction tuning: LoRA adapters trained on the answers of rendered prompts."""
