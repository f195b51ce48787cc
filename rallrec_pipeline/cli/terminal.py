"""What commands print with: findings to stdout, notes and errors to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import typer
from rich.text import Text

from rallrec_pipeline.terminal import PlainConsole

console = PlainConsole(width=None if sys.stdout.isatty() else 120)
errors = PlainConsole(stderr=True)


def say(message: str) -> None:
    """A note on stderr, as it is."""
    errors.print(message, markup=False, highlight=False, soft_wrap=True)


def tell_findings(problems: Iterable[str], warnings: Iterable[str] = ()) -> None:
    """Problems and warnings, a line each; they hold text from files, so they are never read as markup."""
    for mark, style, messages in (("✗", "red", problems), ("!", "yellow", warnings)):
        for message in messages:
            console.print(Text.assemble((mark, style), " ", message), soft_wrap=True)


def leave_if_any(problems: int) -> None:
    """Leave with 1 where there are problems, and say how many."""
    if problems:
        plural = "" if problems == 1 else "s"
        console.print(f"not ready: {problems} problem{plural} to mend", highlight=False)
        raise typer.Exit(1)
