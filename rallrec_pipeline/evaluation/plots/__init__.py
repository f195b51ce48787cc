"""Pictures of a report, as SVG that follows a light or dark page, or as PNG for Dagster's UI."""
