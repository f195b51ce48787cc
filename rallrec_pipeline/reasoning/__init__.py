"""RALLRec+: sampled thoughts, what is read after them, and the merging of several predictions."""
