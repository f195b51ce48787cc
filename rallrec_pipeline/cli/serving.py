"""The command `serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from rallrec_pipeline.cli.options import Profile
from rallrec_pipeline.cli.terminal import say
from rallrec_pipeline.settings import lake_root


def serve(
    dataset: Annotated[str, typer.Argument(help="A dataset of which results are in force.")],
    profile: Profile = None,
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
) -> None:
    """Answer over HTTP: the recommendations of a user, and P(yes) of any items for any history."""
    from rallrec_pipeline.datasets.catalog import get_dataset
    from rallrec_pipeline.serving.server import serve_dataset

    get_dataset(dataset, lake_root())
    serve_dataset(lake_root(), dataset, profile, host, port, say)
