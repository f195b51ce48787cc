"""Prompts: which samples, which history lines, which words."""
