"""The reports of a dataset and of a study as JSON-able figures, what the papers published, and both in words."""
