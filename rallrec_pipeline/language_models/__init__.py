"""The three uses of an LLM (write, encode, answer), the engine that runs them, and where weights come from."""
