"""What is fresh, stale or missing, and what catching up costs."""
