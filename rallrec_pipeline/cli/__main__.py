"""`python -m rallrec_pipeline.cli`."""

from __future__ import annotations

from rallrec_pipeline.cli import main

if __name__ == "__main__":
    main()
