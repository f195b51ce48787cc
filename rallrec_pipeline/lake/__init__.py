"""The lake: where every artefact lies, its schema, atomic writes, and what each was made from."""
