"""Item vectors: reduced text, LightGCN, the aligned projection, and their mixture."""
