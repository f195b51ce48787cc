"""What `rallrec serve` answers, and how much of it."""

from __future__ import annotations

from pydantic import Field

from rallrec_pipeline.settings.methods import MethodName
from rallrec_pipeline.settings.section import Section


class ServingSettings(Section):
    """Limits of the server. None of them changes a result, so no fingerprint depends on them."""

    methods: tuple[MethodName, ...] = Field(
        ("factorisation", "rallrec"),
        min_length=1,
        description="What `POST /score` may be asked for; the first where a request names none. Each is loaded at the "
        "start: a method of the LLM takes the memory of its model.",
    )
    body_bytes: int = Field(1_000_000, gt=0, description="Largest body of a request.")
    history_lines: int = Field(1_000, gt=0, description="Most lines of a history.")
    targets: int = Field(200, gt=0, description="Most targets of a request.")
    text_characters: int = Field(1_000, gt=0, description="Longest title, and longest field of an item or a profile.")
    waiting: int = Field(
        64, gt=0, description="Requests that are scored or wait for it, at most; a further one is 503."
    )
    timeout_s: float = Field(30, gt=0, description="A request that takes longer is given up.")
    poll_s: float = Field(1, gt=0, description="Time between two looks for a new result.")
