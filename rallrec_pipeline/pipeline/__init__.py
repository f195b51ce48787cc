"""The floor under Dagster: stages, graph, variants, checks, status, lineage. It knows nothing of Dagster."""
