"""Which file has the ratings, which the items and the users, and what their columns are: by names, then by values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from rallrec_pipeline.datasets.drafting.samples import Sample
from rallrec_pipeline.datasets.guessing.times import time_forms

USER = """
user userid uid useridx customer customerid customerno client clientid reviewer reviewerid visitor visitorid member
memberid account accountid person personid who buyer reader readerid sessionid profilename
"""
ITEM = """
item itemid iid movie movieid film filmid product productid parentasin asin sku isbn book bookid business
businessid game gameid appid song songid track trackid artist artistid news newsid article articleid video
videoid anime animeid recipe recipeid show showid what goods goodsid itemidlist productno
"""
RATING = """
rating ratings stars star score overall ratingvalue bookrating recommend recommended reviewoverall userrating ratinglist
preference grade isrecommended liked
"""
TIME = """
timestamp time date ts datetime eventtime unixreviewtime reviewtime dateupdated createdat created posted when day
reviewdate unixtime ratedat datecreated timestamplist purchasedate orderdate dateadded startedat lastupdated
"""
TITLE = """
title name movietitle booktitle productname productitle itemname itemtitle headline songname trackname filmtitle
originaltitle producttitle gamename titlename appname
"""
EVENT = "event eventtype action behavior behaviour behaviortype actiontype type interaction interactiontype"
VOCABULARY = {
    role: words.split()
    for role, words in {
        "user_id": USER, "item_id": ITEM, "rating": RATING, "timestamp": TIME, "title": TITLE, "event": EVENT,
    }.items()
}  # fmt: skip
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


def plan_of(samples: Sequence[Sample]) -> Plan | str:
    """The tables that the samples make, or the one thing that a person has to decide."""
    named = {sample.file: roles_of(sample) for sample in samples}
    rated = max(samples, key=lambda one: _likeness_to_ratings(one, named[one.file]))
    roles, doubts = dict(named[rated.file]), list[str]()
    others = [sample for sample in samples if sample is not rated]
    _complete(rated, roles, others, doubts)
    for role in ("user_id", "item_id"):
        if role not in roles:
            has = ", ".join(rated.names[:20])
            return f"which column of {rated.file} names the {role.removesuffix('_id')}? It has {has}"
    items, item_id, title = _catalogue(rated, roles["item_id"], others, named, doubts)
    users, user_id = _people(rated, roles["user_id"], [other for other in others if other is not items], named)
    used = (rated, items, users)
    unused = [sample for sample in samples if not any(sample is one for one in used)]
    wanted = ("user_id", "item_id", "rating", "timestamp", "event")
    columns = {role: roles[role] for role in wanted if role in roles}
    return Plan(rated, columns, items, item_id, title, users, user_id, unused, doubts)


def roles_of(sample: Sample) -> dict[str, str]:
    """The columns whose names tell their role: the first of each role, in the order of its words."""
    plain = {name: re.sub(r"[^a-z0-9]", "", name.rpartition(".")[2].lower()) for name in sample.names}
    found: dict[str, str] = {}
    for role, words in VOCABULARY.items():
        hits = [name for word in words for name, text in plain.items() if text == word and name not in found.values()]
        if role == "timestamp":  # of several the one that reads as a time, numbers before dates
            hits = sorted(hits, key=lambda name: not sample.frame[name].str.contains(NUMBER).any())
            hits = [name for name in hits if is_time(sample.frame[name])] or hits
        if hits:
            found[role] = hits[0]
    return found


def is_time(texts: pl.Series) -> bool:
    """Whether most of `texts` (n,) are times."""
    known = texts.filter(texts != "").head(500)
    forms = time_forms(known) if known.len() else []
    return sum(form.count for form in forms) > known.len() / 2


def _likeness_to_ratings(sample: Sample, roles: dict[str, str]) -> tuple[int, int, int]:
    pair = ("user_id" in roles) + ("item_id" in roles)
    if not sample.layout.has_header and sample.layout.fields in (3, 4):
        pair = 2 if all(sample.frame[name].str.contains(NUMBER).mean() == 1 for name in sample.names) else pair
    kind = (2 * ("rating" in roles) + ("timestamp" in roles) + ("event" in roles)) if pair == 2 else 0
    return pair, kind, sample.frame.height


def _complete(sample: Sample, roles: dict[str, str], others: Sequence[Sample], doubts: list[str]) -> None:
    """Roles that no name tells, by values: ids that another file lists, a time, a rating of few values."""
    free = [name for name in sample.names if name not in roles.values()]
    if not sample.layout.has_header and sample.layout.fields in (3, 4) and not roles:
        for role, name in zip(("user_id", "item_id", "rating", "timestamp"), sample.names, strict=False):
            roles[role] = name
        doubts.append(
            f"{sample.file} has no header: its columns are taken for user, item, rating and time, in this order"
        )
        return
    if "timestamp" not in roles:
        times = [name for name in free if is_time(sample.frame[name])]
        if times:
            roles["timestamp"] = times[0]
            free.remove(times[0])
    if "item_id" not in roles:
        listed = [name for name in free if any(_shared(sample, name, other) for other in others)]
        if listed:
            roles["item_id"] = listed[0]
            free.remove(listed[0])
    if "user_id" not in roles and "item_id" in roles:
        ids = [
            name for name in free if 1 < sample.frame[name].n_unique() < sample.frame.height and _are_ids(sample, name)
        ]
        if ids:
            roles["user_id"] = ids[0]


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
    rated: Sample, key: str, others: Sequence[Sample], named: dict[str, dict[str, str]], doubts: list[str]
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
                doubts.append(f"which column of {other.file} is the title is a guess: {title!r}")
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
    rated: Sample, key: str, others: Sequence[Sample], named: dict[str, dict[str, str]]
) -> tuple[Sample | None, str]:
    for other in others:
        roles = named[other.file]
        if "item_id" in roles or len(other.names) < 2:
            continue
        user_id = roles.get("user_id") or _shared(rated, key, other)
        if user_id:
            return other, user_id
    return None, ""
