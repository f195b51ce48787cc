"""Answers read off the LLM: which methods there are, and their P(yes)."""
