"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from rallrec_pipeline.settings import PROFILES

Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "--variant",
        metavar="NAME",
        help=f"{', '.join(PROFILES)}, or a file of your own: `variants/NAME.toml` in the lake.",
    ),
]
