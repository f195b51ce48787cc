"""What a draft says of ratings, times, ids and fields, and why."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import polars as pl

from rallrec_pipeline.datasets.checking.ids import NULL_WORDS
from rallrec_pipeline.datasets.drafting.samples import Sample
from rallrec_pipeline.datasets.fields import DECIMAL_COMMA
from rallrec_pipeline.datasets.guessing.times import EARLIEST_S, time_forms

MOST_STEPS = 21  # of a scale
MOST_FIELDS = 6
TRUE, FALSE = ("true", "yes", "y"), ("false", "no", "n")
BOUGHT = ("purchase", "purchased", "buy", "bought", "order", "transaction", "checkout", "play", "watch", "read")
ARTICLE = r", (The|A|An|Les|La|Le|Il|Das|Der|Die|Det|El)( \(|$)"
LIST = r"^\[?\d+([,;|\s]+\d+){2,}\]?$"
YEAR = r"\((\d{4})[^)]*\)\s*$"
WORDS = {
    "movie": "movies", "film": "films", "book": "books", "product": "products", "game": "games", "song": "songs",
    "track": "tracks", "artist": "artists", "news": "news", "article": "articles", "video": "videos", "anime": "anime",
    "recipe": "recipes", "show": "shows",
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """The rating scale: its steps and what is liked, or none for implicit feedback; `note` says why."""

    steps: list[float]
    like_above: float
    note: str
    codes: dict[str, str]
    drop_zero: bool = False


def numbers_of(texts: pl.Series) -> pl.Series:
    """The finite numbers (m,) float64 among `texts` (n,); `3,5` is 3.5."""
    numbers = texts.str.replace(DECIMAL_COMMA, "$1.$2").cast(pl.Float64, strict=False)
    return numbers.filter(numbers.is_finite()).drop_nulls()


def is_time(texts: pl.Series) -> bool:
    """Whether most of `texts` (n,) are times."""
    known = texts.filter(texts != "").head(500)
    forms = time_forms(known) if known.len() else []
    return sum(form.count for form in forms) > known.len() / 2


def scale_of(texts: pl.Series) -> Scale:
    """The scale of ratings (n,) as text; without steps it is feedback without ratings."""
    known = texts.filter(texts != "").str.to_lowercase()
    if known.len() and known.is_in([*TRUE, *FALSE]).mean() == 1:
        words = [word for word in ("yes", "no", "y", "n") if (known == word).any()]
        codes = {word: "1" if word in TRUE else "0" for word in texts.unique().to_list() if word.lower() in words}
        return Scale([0, 1], 0, "yes and no: what is true is liked", codes)
    numbers = numbers_of(known)
    values = numbers.unique().sort().to_list()
    if len(values) < 2:
        return Scale([], 0, f"every rating is {values[0]:g}" if values else "no rating is a number", {})
    zero = values[0] == 0 and len(values) > 3 and values[1] >= 1
    steps = _steps(values)
    if len(steps) < 2:
        whole = all(value == round(value) for value in values)
        what = "counts" if whole else "continuous"
        return Scale([], 0, f"the ratings are {what}, {values[0]:g} to {values[-1]:g}", {})
    rated = numbers.filter(numbers != 0) if zero else numbers
    shares = {step: float((rated > step).mean() or 0) for step in steps[:-1] if not (zero and step == 0)}  # type: ignore[arg-type]
    middle = [step for step, share in shares.items() if 0.35 <= share <= 0.65]
    like_above = max(middle) if middle else min(shares, key=lambda step: abs(shares[step] - 0.5))
    held = ", ".join(f"{value:g}" for value in values)
    note = f"the first rows hold {held}; {shares[like_above]:.0%} lie above {like_above:g}"
    return Scale(steps, like_above, note, {}, zero)


def _steps(values: list[float]) -> list[float]:
    """All steps from the lowest to the highest value, where they are steps; empty where they are continuous."""
    for size in (1.0, 0.5):
        if all(abs(value / size - round(value / size)) < 1e-6 for value in values):
            count = round((values[-1] - values[0]) / size) + 1
            if count <= MOST_STEPS:
                return [values[0] + size * place for place in range(count)]
            break
    return values if len(values) <= 12 else []


def time_setting(texts: pl.Series) -> tuple[dict[str, object], str, str]:
    """Settings of the column of times, a note, and what a person must decide; settings are missing without times."""
    known = texts.filter(texts != "")
    forms = time_forms(known)
    if known.len() and known.str.contains(LIST).all():
        return {}, "", "a row holds a whole list, but must be one rating: write a row for each entry"
    if not forms:
        return {}, "", f"how is a time such as {known[0]!r} written?" if known.len() else ""
    form = forms[0]
    set_: dict[str, object] = {}
    if form.column.time_format:
        set_["time_format"] = form.column.time_format
    elif form.column.unit != "s":
        set_["unit"] = form.column.unit
    if len(forms) > 1 and forms[1].count > 0.01 * known.len():
        return set_, "", f"times are mixed, as {forms[0].example!r} and {forms[1].example!r}: write them in one form"
    zeros = (
        known.filter(known.is_in(["0", "-1", "0.0"]) | _is_early(known))
        if not form.column.time_format
        else known.clear()
    )
    if zeros.len():
        set_["empty"] = zeros.unique().sort().head(5).to_list()
    note = f"as {form.example}"
    if form.rival:
        note += f"; {json.dumps(form.rival)} reads as many: choose"
    return set_, note, ""


def _is_early(texts: pl.Series) -> pl.Series:
    numbers = texts.cast(pl.Float64, strict=False)
    return (numbers.abs() < EARLIEST_S / 1000).fill_null(False)


def null_words(*columns: pl.Series) -> list[str]:
    """Words for nothing among ids."""
    found = [texts.filter(texts.is_in(NULL_WORDS)).unique().to_list() for texts in columns]
    return sorted({word for words in found for word in words})


def nothing_in(sample: Sample) -> list[str]:
    """Words of a catalogue for nothing: those for null, and remarks such as `(no genres listed)`."""
    texts = [sample.frame[name].unique() for name in sample.names]
    remarks = [found.filter(found.str.contains(r"(?i)^\(no[t ].*\)$")).to_list() for found in texts]
    return sorted({word for words in remarks for word in words} | set(null_words(*texts)) - {"-", "?", "None", "none"})


def where_of(sample: Sample, column: str) -> tuple[str, str] | None:
    """The event of a log that says most, and all that there are."""
    events = sample.frame[column].unique().sort().to_list()
    best = next((event for word in BOUGHT for event in events if event.lower() == word), None)
    return (best, ", ".join(events)) if best is not None and 1 < len(events) <= 20 else None


def title_setting(texts: pl.Series, column: str) -> dict[str, object]:
    """How titles are read: without the year in brackets, with the article first."""
    known = texts.filter(texts != "")
    set_: dict[str, object] = {"column": column}
    if known.len() and float(known.str.contains(YEAR).mean() or 0) > 0.5:  # type: ignore[arg-type]
        set_["pattern"] = r"^(.*?)\s*(?:\(\d{4}[^)]*\))?\s*$"
    if known.str.contains(ARTICLE).any():
        set_["move_article"] = True
    return set_


def fields_of(sample: Sample, taken: set[str], title: str) -> dict[str, dict[str, object]]:
    """Further fields of items or users that may help: texts of a few words that more than one row has."""
    found: dict[str, dict[str, object]] = {}
    if title and float(sample.frame[title].str.contains(YEAR).mean() or 0) > 0.5:  # type: ignore[arg-type]
        found["year"] = {"column": title, "pattern": r"\((\d{4})[^)]*\)\s*$"}
    for name in sample.names:
        if name in taken or len(found) == MOST_FIELDS:
            continue
        texts = sample.frame[name].filter(sample.frame[name] != "")
        key = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")
        if (
            not key
            or key[0].isdigit()
            or key in found
            or key in ("line", "text", "reason", "item_id", "user_id", "title")
        ):
            continue
        if texts.len() < 0.2 * max(1, sample.frame.height) or not _is_telling(texts):
            continue
        found[key] = _field_setting(texts, name)
    return found


def _is_telling(texts: pl.Series) -> bool:
    lengths = texts.str.len_chars()
    wordy = float(texts.str.contains(r"\p{L}{2}|^(19|20)\d\d$").mean() or 0)  # type: ignore[arg-type]
    many = texts.n_unique() > 0.9 * texts.len() and texts.len() > 20
    return (
        wordy > 0.5
        and not many
        and float(lengths.to_numpy().mean()) < 120
        and texts.n_unique() > 1
        and not (texts.str.contains(r"^https?://|^(true|false)$|^\{.*\}$").any())
    )


def _field_setting(texts: pl.Series, column: str) -> dict[str, object]:
    if texts.str.contains(r"^\[.*\]$").mean() == 1 or texts.str.contains('\x1f\\[|^\\["').any():
        return {"column": f"{column}.0", "pick": -1}
    for mark in ("|", " > ", "; "):
        if float(texts.str.contains(mark, literal=True).mean() or 0) > 0.2:  # type: ignore[arg-type]
            return {"column": column, "split": mark}
    return {"column": column}


def word_of(names: list[str]) -> tuple[str, str] | None:
    """What an item is called, by the names of files and columns."""
    text = " ".join(names).lower()
    return next(((one, many) for one, many in WORDS.items() if one in text), None)
