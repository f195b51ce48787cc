"""Metrics, their errors, and the report: JSON, plots, HTML page and console table."""
