"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getdoc
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from rallrec_pipeline.settings import PROFILES


class DashesAreNames(TyperCommand):
    """A command to which `-5` is a name, such as that of an item, where it has no option of that letter.

    A long option that it does not know stays an error, as it is most often a slip.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click does it, for single dashes as if unknown options were to be ignored."""
        known = {name for option in self.get_params(ctx) for name in (*option.opts, *option.secondary_opts)}
        named = args[: args.index("--")] if "--" in args else args
        unknown = [arg for arg in named if arg.startswith("--") and arg.partition("=")[0] not in known]
        ctx.ignore_unknown_options = not unknown
        return super().parse_args(ctx, [*unknown[:1], *args])  # click complains of the first that it meets


def paragraphs(command: Callable[..., object]) -> str:
    """The docstring of a command with each paragraph on one line, so that the help breaks where the terminal does."""
    return "\n\n".join(" ".join(part.split()) for part in (getdoc(command) or "").split("\n\n"))


Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "--variant",
        metavar="NAME",
        help=f"{', '.join(PROFILES)}, or a file of your own: `variants/NAME.toml` in the lake.",
    ),
]
