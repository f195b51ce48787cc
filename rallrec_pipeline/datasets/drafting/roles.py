"""Which file has the ratings, which the items and the users, and what their columns are: by names, then by values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rallrec_pipeline.datasets.drafting.names import GRADES, RATING, VOCABULARY, is_named
from rallrec_pipeline.datasets.drafting.ratings import Likeness, guess_rating, is_like_rating, is_numeric, likeness_of
from rallrec_pipeline.datasets.drafting.samples import Sample
from rallrec_pipeline.datasets.drafting.values import LIST, is_time, numbers_of, scale_of

NUMBER = r"^-?\d+([.,]\d+)?$"
SHARED = 0.6  # share of the ids of the ratings that another file's column must list


@dataclass(frozen=True)
class Plan:
    """The tables of a dataset: which sample each is read from, and the file's column of each role."""

    ratings: Sample
    columns: dict[str, str]
    items: Sample
    item_id: str
    title: str
    users: Sample | None = None
    user_id: str = ""
    unused: Sequence[Sample] = ()
    doubts: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    """What a person has to decide, though the file can be used as it is."""
    guesses: dict[str, str] = field(default_factory=dict)
    """Why a column was taken, for each role that its values alone have told; `items.`, `users.` for those files."""
    numbers: list[str] = field(default_factory=list)
    """Columns of numbers that are no rating, where no other column is one."""


def plan_of(samples: Sequence[Sample]) -> Plan | str:
    """The tables that the samples make, or the one thing that a person has to decide."""
    named = {sample.file: roles_of(sample) for sample in samples}
    rated = max(samples, key=lambda one: _likeness_to_ratings(one, named[one.file]))
    roles, doubts, guesses = dict(named[rated.file]), list[str](), dict[str, str]()
    others = [sample for sample in samples if sample is not rated]
    _complete(rated, roles, others, doubts, guesses)
    for role in ("user_id", "item_id"):
        if role not in roles:
            has = ", ".join(rated.names[:20])
            return f"which column of {rated.file} names the {role.removesuffix('_id')}? It has {has}"
    numbers, questions = _rating(rated, roles, guesses)
    items, item_id, title = _catalogue(rated, roles["item_id"], others, named, doubts, guesses)
    others = [other for other in others if other is not items]
    users, user_id = _people(rated, roles["user_id"], others, named, guesses)
    used = (rated, items, users)
    unused = [sample for sample in samples if not any(sample is one for one in used)]
    wanted = ("user_id", "item_id", "rating", "timestamp", "event")
    columns = {role: roles[role] for role in wanted if role in roles}
    return Plan(rated, columns, items, item_id, title, users, user_id, unused, doubts, questions, guesses, numbers)


def roles_of(sample: Sample) -> dict[str, str]:
    """The columns whose names tell their role: the first of each role, in the order of its words."""
    found: dict[str, str] = {}
    for role, words in VOCABULARY.items():
        free = [name for name in sample.names if name not in found.values()]
        hits = [name for word in words for name in free if is_named(name, [word])]
        if role == "rating":  # of several the one that has a scale, which the text of a review has not
            hits = [name for name in hits if is_named(name, RATING.split()) or _has_scale(sample, name)]
            hits = sorted(hits, key=lambda name: not scale_of(sample.frame[name]).steps)
        if role == "timestamp":  # of several the one that reads as a time, numbers before dates
            hits = sorted(hits, key=lambda name: not sample.frame[name].str.contains(NUMBER).any())
            hits = [name for name in hits if is_time(sample.frame[name])] or hits
        if hits:
            found[role] = hits[0]
    return found


def _has_scale(sample: Sample, name: str) -> bool:
    texts = sample.frame[name]
    return is_numeric(texts) and likeness_of(numbers_of(texts)) is not Likeness.NONE


def _likeness_to_ratings(sample: Sample, roles: dict[str, str]) -> tuple[int, int, int]:
    pair = ("user_id" in roles) + ("item_id" in roles)
    if not sample.layout.has_header and sample.layout.fields in (3, 4):
        pair = 2 if all(sample.frame[name].str.contains(NUMBER).mean() == 1 for name in sample.names) else pair
    kind = (2 * ("rating" in roles) + ("timestamp" in roles) + ("event" in roles)) if pair == 2 else 0
    return pair, kind, sample.frame.height


def _complete(
    sample: Sample, roles: dict[str, str], others: Sequence[Sample], doubts: list[str], guesses: dict[str, str]
) -> None:
    """Roles that no name tells, by values: a time, ids that another file lists, ids that stand in several rows."""
    if not sample.layout.has_header and sample.layout.fields in (3, 4) and not roles:
        for role, name in zip(("user_id", "item_id", "rating", "timestamp"), sample.names, strict=False):
            roles[role], guesses[role] = name, "by its place"
        doubts.append(
            f"{sample.file} has no header: its columns are taken for user, item, rating and time, in this order"
        )
        return

    def take(role: str, names: Sequence[str], why: str) -> None:
        if names and role not in roles:
            roles[role], guesses[role] = names[0], why

    def free() -> list[str]:  # ratings may be listed like ids, so they come last
        names = [name for name in sample.names if name not in roles.values()]
        return sorted(names, key=lambda name: is_like_rating(sample, name))

    if "timestamp" not in roles:
        take("timestamp", [name for name in free() if is_time(sample.frame[name])], "its values read as times")
    if "item_id" not in roles:
        listed = [name for name in free() if any(_shared(sample, name, other) for other in others)]
        take("item_id", listed, "another file lists its values")
    if "user_id" not in roles and "item_id" in roles:
        several = [name for name in free() if 1 < sample.frame[name].n_unique() < sample.frame.height]
        take("user_id", [name for name in several if _are_ids(sample, name)], "its values stand in several rows")


def _rating(sample: Sample, roles: dict[str, str], guesses: dict[str, str]) -> tuple[list[str], list[str]]:
    """Guess the rating where no name tells one: the columns of numbers that are none, and questions."""
    named = roles.get("rating")
    if named and is_numeric(sample.frame[named]):
        return [], _ask_for_grades(sample, named)
    if named and scale_of(sample.frame[named]).steps:  # yes and no
        return [], []
    free = [name for name in sample.names if name not in roles.values()]
    guess = guess_rating(sample, free, [roles["user_id"], roles["item_id"]], is_log="event" in roles)
    if guess.column:
        roles["rating"] = guess.column
        guesses["rating"] = "no name tells the rating, but these are few values of a usual scale"
    questions = [guess.question] if guess.question else []
    if named and not guess.column and not sample.frame[named].str.contains(LIST).any():
        first = next((text for text in sample.frame[named] if text), "")
        what = f"it holds words such as {first!r}: give each a number with `values`" if first else "it is empty"
        questions = [f"{sample.file}: column {named} is named like a rating, but {what}"]
    return ([] if guess.column else guess.left), questions


def _ask_for_grades(sample: Sample, name: str) -> list[str]:
    """A question where 1 may be the best of 1 to 6, as in German schools."""
    values = numbers_of(sample.frame[name])
    if not is_named(name, GRADES) or values.min() != 1 or values.max() != 6:
        return []
    turned = "{ 1 = 6, 2 = 5, 3 = 4, 4 = 3, 5 = 2, 6 = 1 }"
    return [f"{sample.file}: is 1 the best of column {name}, as in German schools? Then add `values = {turned}` to it"]


def _are_ids(sample: Sample, name: str) -> bool:
    return bool(sample.frame[name].str.len_chars().max() or 0) and not sample.frame[name].str.contains(r"\s").any()


def _shared(sample: Sample, name: str, other: Sample) -> str:
    """The column of `other` that lists most of the values of a column, each once; empty where there is none."""
    values = sample.frame[name].unique()
    values = values.filter(values != "")
    for column in other.names:
        listed = other.frame[column].filter(other.frame[column] != "")
        if not listed.len() or listed.n_unique() < 0.9 * listed.len():
            continue
        part = values.is_in(listed.implode()).mean() or 0.0
        if (part if other.whole else max(part, listed.is_in(values.implode()).mean() or 0.0)) > SHARED:  # type: ignore[operator]
            return column
    return ""


def _catalogue(
    rated: Sample,
    key: str,
    others: Sequence[Sample],
    named: dict[str, dict[str, str]],
    doubts: list[str],
    guesses: dict[str, str],
) -> tuple[Sample, str, str]:
    """The sample with the items, and its columns of the id and the title."""
    for other in sorted(others, key=lambda one: ("title" not in named[one.file], "user_id" in named[one.file])):
        roles = named[other.file]
        item_id = roles.get("item_id") or _shared(rated, key, other)
        if item_id and "user_id" in roles and roles["user_id"] != item_id and "title" not in roles:
            continue
        if item_id:
            title = roles.get("title") or _title(other, item_id)
            if not title:
                continue
            if "title" not in roles:
                guesses["items.title"] = "it reads most like a title"
            if "item_id" not in roles:
                guesses["items.item_id"] = "it lists the items of the ratings"
            return other, item_id, title
    title = named[rated.file].get("title") or ""
    if not title:
        doubts.append("no file has titles: the prompts would show ids, so give a file with titles if you can")
    return rated, key, title or key


def _title(sample: Sample, item_id: str) -> str:
    """The column that reads most like a title: text, different for nearly each item, neither address nor number."""
    best, most = "", 0.0
    for name in sample.names:
        texts = sample.frame[name].filter(sample.frame[name] != "")
        if name == item_id or not texts.len() or texts.str.contains(r"^https?://").any() or is_time(texts):
            continue
        wordy = float(texts.str.contains(r"\p{L}{2}").mean() or 0)  # type: ignore[arg-type]
        score = wordy * texts.n_unique() / max(1, sample.frame.height)
        if score > max(most, 0.3):
            best, most = name, score
    return best


def _people(
    rated: Sample, key: str, others: Sequence[Sample], named: dict[str, dict[str, str]], guesses: dict[str, str]
) -> tuple[Sample | None, str]:
    for other in others:
        roles = named[other.file]
        if "item_id" in roles or len(other.names) < 2:
            continue
        user_id = roles.get("user_id") or _shared(rated, key, other)
        if user_id:
            if "user_id" not in roles:
                guesses["users.user_id"] = "it lists the users of the ratings"
            return other, user_id
    return None, ""
