"""A dataset's profile (see `profile_dataset`) as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from rallrec_pipeline.evaluation.page import facts, gallery, page, provenance, section, table
from rallrec_pipeline.evaluation.wording import NONE

Profile = Mapping[str, Any]

_SPLITS = {"train": "training", "valid": "validation", "test": "test"}


def render_dataset_page(profile: Profile, plots: Mapping[str, bytes], origin: Mapping[str, Any]) -> str:
    """The page of a profile with `plots` (caption -> PNG bytes); `origin` says what it was made of."""
    title = f"{profile['title']}: dataset"
    pictures = "".join(gallery({caption: png}) for caption, png in plots.items())
    parts = [
        f"<h1>{escape(title)}</h1>{_facts(profile)}",
        f'<section class="lead"><p>{escape(summary(profile))}</p></section>',
        section("Plots", pictures) if pictures else "",
        section("From the raw file to the samples", _funnel(profile)),
        section("Samples", _samples(profile)),
        section("Before and under the protocol", _sizes(profile)),
        provenance(origin),
    ]
    return page(title, parts)


def summary(profile: Profile) -> str:
    """One sentence: what was read, kept and made of it."""
    raw, core, samples = profile["raw"], profile["core"], profile["samples"]
    return (
        f"Of {raw['read']:,} ratings in the raw file {raw['refused']:,} were refused; {core['interactions']:,}"
        f" ratings of {core['items']:,} items by {core['users']:,} users stay under the protocol"
        f" and make {samples['rows']:,} samples."
    )


def _facts(profile: Profile) -> str:
    time = profile["time"]
    texts = [
        f"dataset {profile['dataset']}",
        f"protocol {profile['protocol']}",
        "split in time" if profile["split"] == "time" else "split by user",
        f"{time['first']} to {time['last']}" if time else "no times",
    ]
    if time and time["without_time"]:
        texts.append(f"{time['without_time']:,} ratings without a time")
    if profile["implicit"]:
        texts.append("implicit feedback")
    return facts(texts)


def _funnel(profile: Profile) -> str:
    rows = [
        (
            False,
            [
                escape(step["step"]),
                f"{step['rows_in']:,}",
                f"{step['dropped']:,}",
                f"{step['added']:,}",
                f"{step['rows_out']:,}",
            ],
        )
        for step in profile["funnel"]
    ]
    return table(("Step", "Rows in", "Dropped", "Added", "Rows out"), rows)


def _samples(profile: Profile) -> str:
    samples = profile["samples"]
    begins = profile["time"]["borders"] if profile["time"] else {}
    rows = [
        (
            False,
            [name, f"{found['rows']:,}", _share(found["rows"], samples["rows"]), _percent(found["liked"])]
            + ([escape(begins.get(split, NONE))] if begins else []),
        )
        for split, name in _SPLITS.items()
        for found in (samples["splits"][split],)
    ]
    head = ["Split", "Samples", "Share", "Liked", *(["Begins"] if begins else [])]
    lengths = ", ".join(f"{name} {length:,}" for name, length in profile["history_length"]["quantiles"].items())
    notes = [f"Length of the histories: {lengths}."] if lengths else []
    if samples["negatives"]:
        notes.append(f"{samples['negatives']:,} of the samples are sampled negatives.")
    return table(head, rows) + "".join(f'<p class="soft">{escape(note)}</p>' for note in notes)


def _sizes(profile: Profile) -> str:
    raw, core = profile["raw"], profile["core"]
    rows = [
        (False, [name, f"{raw[key]:,}", f"{core[key]:,}", _share(core[key], raw[key])])
        for key, name in (("interactions", "Ratings"), ("users", "Users"), ("items", "Items"))
    ]
    density = "" if core["density"] is None else f" Density: {core['density']:.4%} of all pairs of user and item."
    note = f"{core['items_without_title']:,} items of the protocol have no title.{density}"
    return table(("", "Accepted", "Protocol", "Kept"), rows) + f'<p class="soft">{escape(note)}</p>'


def _share(part: int, whole: int) -> str:
    return _percent(part / whole if whole else None)


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{share:.1%}"
