"""What is printed is shown and never obeyed: control, escape and bidirectional characters do not reach the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from rallrec_pipeline.text import visible


class PlainConsole(Console):
    """A console whose own styles are the only ones: those that a text brings along are replaced."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As the console renders, with `visible` texts."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
