"""A world whose catalogue, ids and users are hostile texts, its twin with plain ones, and an LLM that knows the tokens.

Ratings, their order and the other items are the same in both, so that only what is written differs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rallrec_pipeline_tests.hostile import ALIKE, FORMULAS, HOSTILE, MARKUP, PATHS, TOKENS
from rallrec_pipeline_tests.language_models.small_llama import (
    LIVELY,
    NARROW,
    byte_tokenizer,
    random_llama,
    special_tokens,
)
from rallrec_pipeline_tests.pipeline.tiny import SIZES, use_lake

NAME, PLAIN_ITEMS, PLAIN_USERS = "world", 10, 20
RATERS = ("<script>alert(9)</script>", "../../etc/passwd", "\x1b[31mred")
IDS = tuple(dict.fromkeys(text.strip() for text in (*ALIKE, *PATHS, *MARKUP, *FORMULAS)))
TEXTS = tuple(text for text in HOSTILE if text.strip() not in IDS)
"""Titles of items whose ids are plain; of the others id and title are one of `IDS`."""
DATASET = """
title = "<b>World</b> \\u202e"
unknown_items = "reject"

[source]
kind = "folder"
location = "../../files"

[interactions]
file = "ratings.jsonl"
columns = { user_id = "user", item_id = "item", rating = "rating", timestamp = "time" }

[items]
file = "items.jsonl"
columns = { item_id = "item", title = "title", note = "note" }

[users]
file = "users.jsonl"
columns = { user_id = "user", job = "job" }

[protocol]
user_core = 3
item_core = 3
min_history = 3

[label]
scale = [1, 2, 3, 4, 5]
like_above = 3
"""
SETTINGS = f"""
only_methods = ["rallrec", "zero_shot", "zero_shot_recent"]

[model]
source = "{{model}}"
name = "tiny"
dtype = "float32"
tokens_per_batch = 1

[encoder]
source = "{{model}}"
name = "tiny"
dtype = "float32"
{SIZES.replace("test_samples = 10", "test_samples = 70")}
[methods]
zero_shot_recent = {{{{ prompt_form = "recent" }}}}
"""


@dataclass(frozen=True)
class Names:
    """What is written in the files: ids and titles of the other items, and their raters."""

    items: tuple[tuple[str, str], ...]
    raters: tuple[str, ...]


HOSTILE_NAMES = Names((*((f"h{n}", text) for n, text in enumerate(TEXTS)), *((text, text) for text in IDS)), RATERS)
PLAIN_NAMES = Names(
    tuple((f"h{n}" if n < len(TEXTS) else f"k{n}", f"Other {n}") for n in range(len(TEXTS) + len(IDS))),
    tuple(f"x{n}" for n in range(len(RATERS))),
)


def make_lake(root: Path, names: Names, model: Path, patch: pytest.MonkeyPatch) -> Path:
    """A lake in which nothing has run; the environment names it."""
    lake, files = root / "lake", root / "files"
    (lake / "catalog").mkdir(parents=True)
    (lake / "catalog" / f"{NAME}.toml").write_text(DATASET, encoding="utf-8")
    files.mkdir()
    items = [(f"i{item}", f"Title {item}") for item in range(PLAIN_ITEMS)]
    _write(files / "items.jsonl", [{"item": i, "title": t, "note": t[:200]} for i, t in (*items, *names.items)])
    users = [f"u{user}" for user in range(PLAIN_USERS)]
    _write(files / "users.jsonl", [{"user": user, "job": user} for user in (*users, *names.raters)])
    rng = np.random.default_rng(5)
    pairs = [
        (user, item) for user in users for item, _ in (items[n] for n in rng.choice(PLAIN_ITEMS, 8, replace=False))
    ]
    pairs += [(user, item) for user in names.raters for item, _ in names.items]
    moments, ratings = rng.permutation(len(pairs)), rng.integers(1, 6, len(pairs))
    rows = [
        {"user": user, "item": item, "rating": int(rating), "time": int(moment)}
        for (user, item), rating, moment in zip(pairs, ratings, moments, strict=True)
    ]
    _write(files / "ratings.jsonl", rows)
    (settings := root / "settings.toml").write_text(SETTINGS.format(model=model.as_posix()), encoding="utf-8")
    use_lake(lake, settings, patch)
    return lake


def write_model(folder: Path) -> Path:
    """A tiny LLM whose tokenizer knows the tokens of all families as its own, and opens no turn by itself."""
    tokenizer = byte_tokenizer(None, begins=False)
    tokenizer.add_special_tokens({"additional_special_tokens": list(TOKENS)})
    tokenizer.save_pretrained(folder)
    values = NARROW | {"initializer_range": LIVELY["initializer_range"]} | special_tokens(tokenizer)
    random_llama(values).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
