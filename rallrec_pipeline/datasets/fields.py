"""What is done with the text of one column: lists, codes, buckets, patterns, timestamps."""

from __future__ import annotations

import html
from itertools import pairwise

import polars as pl

from rallrec_pipeline.datasets.file_spec import ColumnSpec

ENTRY = "\x1f"  # between the entries of a list that came as one (JSON, Parquet)
NUMBER = r"^-?\d+(\.\d+)?$"
ARTICLES = ("The", "A", "An", "Les", "La", "Le", "Il", "Das", "Der", "Die", "Det", "El")
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
TRUTH = {"true": "1", "false": "0"}
MINUS = "^[−‒–]"  # as typesetters write it
TAG = (
    r"(?i)<(/?(a|abbr|b|big|br|center|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|s|script|small|span|strong|style|sub|sup|"
    r"table|tbody|td|th|tr|tt|u|ul)(\s[^<>]*)?/?|!--[^<>]*--)>"
)
"""Tags of HTML by name: a title may well be <Untitled>."""
DECIMAL_COMMA = r"^\s*(-?\d+),(\d{1,2})\s*$"  # three digits after a comma may be thousands


def text_field(name: str, spec: ColumnSpec, empty: tuple[str, ...]) -> pl.Expr:
    """The column `name` (text) as a field of a catalogue: text, empty where nothing is known."""
    value = _without_html(_meaning(pl.col(name), empty, spec))
    if spec.pattern:
        value = value.str.extract(spec.pattern, 1).fill_null("").str.strip_chars()
    value = _list_field(value, spec)
    if spec.values:
        value = value.replace(spec.values)
    if spec.numeric or spec.buckets or spec.bounds:
        value = pl.when(value.str.contains(NUMBER)).then(value).otherwise(pl.lit(""))
    if spec.bounds:
        inside = value.cast(pl.Float64, strict=False).is_between(*spec.bounds).fill_null(False)
        value = pl.when(inside).then(value).otherwise(pl.lit(""))
    if spec.buckets:
        value = _bucket(value, spec.buckets)
    if spec.move_article:
        value = article_first(value)
    return value.alias(name)


def number_field(name: str, spec: ColumnSpec, empty: tuple[str, ...]) -> pl.Expr:
    """The column `name` (text) as a number, null where it is none; `4,5` is 4.5, true is 1 and false 0."""
    text = _meaning(pl.col(name), empty, spec)
    if spec.values:
        text = text.replace(spec.values)
    number = text.cast(pl.Float64, strict=False)
    rest = pl.when(number.is_null()).then(text)  # few: what is no number at once is looked at more closely
    other = rest.str.replace(MINUS, "-").str.replace(DECIMAL_COMMA, "$1.$2").str.to_lowercase().replace(TRUTH)
    return pl.coalesce(number, other.cast(pl.Float64, strict=False)).alias(name)


def time_field(name: str, spec: ColumnSpec, empty: tuple[str, ...]) -> pl.Expr:
    """The column `name` (text) as UTC seconds, null where it is no time."""
    value = _meaning(pl.col(name), empty, spec)
    if spec.time_format:
        if spec.time_format.endswith("%z"):
            value = value.str.replace("[Zz]$", "+0000")  # Polars' %z knows figures only
        moment = value.str.strptime(pl.Datetime("us"), polars_format(spec.time_format), strict=False)
        return (moment.dt.epoch("us") / 1e6).alias(name)
    return (value.cast(pl.Float64, strict=False) * SECONDS[spec.unit]).alias(name)


def moment_text(name: str, spec: ColumnSpec, moment: pl.Expr) -> pl.Expr:
    """A column of moments as the text that `time_field` reads them from; of a catalogue as ISO 8601, in UTC."""
    utc = moment.cast(pl.Datetime("us"))
    if name == "timestamp" and not spec.time_format:
        return (utc.dt.epoch("us") / 1e6 / SECONDS[spec.unit]).cast(pl.String)
    text = utc.dt.replace_time_zone("UTC").dt.to_string(polars_format(spec.time_format or "%Y-%m-%d %H:%M:%S"))
    return text if spec.time_format else text.str.strip_suffix(" 00:00:00")


def polars_format(time_format: str) -> str:
    """A time format with Python's fraction of a second as Polars writes it."""
    return time_format.replace(".%f", "%.f")


def id_field(name: str, spec: ColumnSpec, empty: tuple[str, ...]) -> pl.Expr:
    """The column `name` (text) as an id; words that mean nothing are no id."""
    return _meaning(pl.col(name), empty, spec).alias(name)


def article_first(title: pl.Expr) -> pl.Expr:
    """`Postman, The` as `The Postman`; a title in brackets alike: `Big Blue, The (Grand bleu, Le)`."""
    moved = title.str.replace_all(rf"([^()]*[^()\s]), ({'|'.join(ARTICLES)})(\s*)([()]|$)", "${2} ${1}${3}${4}")
    return moved.str.replace_all(r"([^()]*[^()\s]), (L')(\s*)([()]|$)", "${2}${1}${3}${4}")


def _meaning(value: pl.Expr, empty: tuple[str, ...], spec: ColumnSpec) -> pl.Expr:
    text, words = value.fill_null("").str.strip_chars(), [*empty, *spec.empty]
    return pl.when(text.is_in(words)).then(pl.lit("")).otherwise(text) if words else text


def _without_html(value: pl.Expr) -> pl.Expr:
    """Text of a web page as a reader sees it: `&amp;` is `&`, tags are gone."""
    has_html = value.str.contains(r"&#?\w+;|<[/a-zA-Z]")
    plain = pl.when(has_html).then(value).map_batches(_unescaped, return_dtype=pl.String, is_elementwise=True)
    return pl.when(has_html).then(plain.str.replace_all(TAG, " ").str.strip_chars()).otherwise(value)


def _unescaped(texts: pl.Series) -> pl.Series:
    """Character references of each text (n,) as characters; of some pages they are escaped twice."""
    if texts.null_count() == texts.len():
        return texts
    return pl.Series(texts.name, [None if text is None else _characters(text) for text in texts], pl.String)


def _characters(text: str) -> str:
    return html.unescape(html.unescape(text)).encode(errors="replace").decode()


def _list_field(value: pl.Expr, spec: ColumnSpec) -> pl.Expr:
    """The entries that say something joined by commas, or the one that is picked; empty ones have their place, too."""
    marked = value.str.replace_all(spec.split, ENTRY, literal=True) if spec.split else value
    entries = marked.str.split(ENTRY).list.eval(pl.element().str.strip_chars())
    if spec.length is not None:
        entries = pl.when(entries.list.len() == spec.length).then(entries).otherwise(pl.lit([], pl.List(pl.String)))
    if spec.pick is not None:
        index = spec.pick - 1 if spec.pick > 0 else spec.pick
        return entries.list.get(index, null_on_oob=True).fill_null("")
    return entries.list.eval(pl.element().filter(pl.element() != "")).list.join(", ")


def _bucket(value: pl.Expr, bounds: tuple[int, ...]) -> pl.Expr:
    number = value.cast(pl.Float64, strict=False)
    name = pl.when(number.is_null()).then(pl.lit("")).when(number < bounds[0]).then(pl.lit(f"under {bounds[0]}"))
    for low, high in pairwise(bounds):
        name = name.when(number < high).then(pl.lit(f"{low}-{high - 1}"))
    return name.otherwise(pl.lit(f"{bounds[-1]}+"))
