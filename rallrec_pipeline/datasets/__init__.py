"""Datasets: what each is, where its files come from, how they are read, and which samples they give."""
