"""Where one item comes from and what used it, from its raw line to the predictions."""
