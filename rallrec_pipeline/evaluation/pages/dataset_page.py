"""A dataset's profile (see `profile_dataset`) as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rallrec_pipeline.evaluation.pages.page import render
from rallrec_pipeline.evaluation.reports.wording import NONE

Profile = Mapping[str, Any]


def render_dataset_page(profile: Profile, plots: Mapping[str, bytes], origin: Mapping[str, Any]) -> str:
    """The page of a profile with `plots` (caption -> PNG bytes); `origin` says what it was made of."""
    return render(
        "dataset.html.j2",
        plots,
        origin,
        title=f"{profile['title']}: dataset",
        facts=_facts(profile),
        lead=[summary(profile)],
        profile=profile,
        splits={"train": "training", "valid": "validation", "test": "test"},
        sizes={"interactions": "Ratings", "users": "Users", "items": "Items"},
        lengths=profile["history_length"]["quantiles"],
        none_sign=NONE,
    )


_SPLITS = {
    "time": "split in time",
    "date": "split by date",
    "user": "split by user",
    "last": "each user's last sample left out",
}


def summary(profile: Profile) -> str:
    """One sentence: what was read, kept and made of it."""
    raw, core, samples = profile["raw"], profile["core"], profile["samples"]
    return (
        f"Of {raw['read']:,} ratings in the raw file {raw['refused']:,} were refused; {core['interactions']:,}"
        f" ratings of {core['items']:,} items by {core['users']:,} users stay under the protocol"
        f" and make {samples['rows']:,} samples."
    )


def _facts(profile: Profile) -> list[str]:
    time = profile["time"]
    texts = [
        f"dataset {profile['dataset']}",
        f"protocol {profile['protocol']}",
        _SPLITS[profile["split"]],
        f"{time['first']} to {time['last']}" if time else "no times",
    ]
    if time and time["without_time"]:
        texts.append(f"{time['without_time']:,} ratings without a time")
    if profile["implicit"]:
        texts.append("implicit feedback")
    return texts
