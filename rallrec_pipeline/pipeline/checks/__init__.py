"""Asset checks: `catalog.py` lists them, the other modules judge."""
