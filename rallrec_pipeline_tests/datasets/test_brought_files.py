"""The kinds of files that people bring: each is read right, or one line says what to do."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.datasets.catalog import load_dataset
from rallrec_pipeline.datasets.drafting.samples import read_sample
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.text import clean_text
from rallrec_pipeline_tests.datasets.brought import (
    HEADER,
    INTERACTIONS,
    RATED,
    WANTED,
    check,
    dataset,
    delimited,
    json_lines,
    parquet,
    ratings_csv,
    tables,
    titles,
    told,
    world,
)

CSV = ratings_csv()


def test_atomic_files_may_be_separated_by_blanks(tmp_path: Path) -> None:
    header = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    path = dataset(tmp_path, {"my.inter": delimited(header, world(), " ")}, interactions='file = "my.inter"')
    assert check(path).problems == [] and tables(path).interactions.drop("microsecond").equals(WANTED)


def test_the_layout_of_the_original_movielens_is_told_at_once(tmp_path: Path) -> None:
    item = "".join(f"{item}|{title} é (1995)|01-Jan-1995||http://x/0|0|1\n" for item, title in titles().items())
    files = {"u.data": delimited((), world(), "\t"), "u.item": item.encode("latin-1")}
    names = '{ item_id = "id", title = "name" }'
    found = check(dataset(tmp_path, files, interactions='file = "u.data"', items='file = "u.item"', item_columns=names))
    assert told(found.problems, "u.item lacks", 'set format = "csv", separator = "|"', "`header` (a list of 7)")
    assert told(found.problems, "u.data lacks", "name the columns with `header` (a list of 4)")
    assert told(found.problems, "u.item", 'set items.encoding (it may be "cp1252")')
    mended = dataset(
        tmp_path,
        files,
        interactions='file = "u.data"\nheader = ["user_id", "item_id", "rating", "timestamp"]',
        items='file = "u.item"\nformat = "csv"\nseparator = "|"\nencoding = "latin-1"\n'
        'header = ["id", "name", "date", "video", "url", "g1", "g2"]',
        item_columns=names,
    )
    assert check(mended).problems == [] and tables(mended).items["title"][0] == "Amber Harbour 0 é (1995)"


def test_an_unknown_ending_names_the_formats(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"ratings.sav": CSV}, interactions='file = "ratings.sav"')
    with pytest.raises(ConfigError, match='"csv", "json_lines", "atomic", "parquet", "arrow" or "excel"'):
        load_dataset(path)


def test_quotes_of_a_file_between_tabs_are_text_where_they_enclose_nothing(tmp_path: Path) -> None:
    names = titles() | {"i1": '"Brass Lantern', "i3": 'Distant "Shore" again', "i5": 'Fading Bell"', "i7": '"'}
    names |= {"i8": '"Iron Orchard', "i9": 'Jade Window"'}
    path = dataset(tmp_path, {"items.tsv": delimited(("item_id", "title"), list(names.items()), "\t")},
                   items='file = "items.tsv"')  # fmt: skip
    found = tables(path)
    assert dict(found.items.rows()) == names and found.rejected.is_empty()
    assert check(path).problems == []


def test_two_rows_between_commas_are_never_one_without_a_word(tmp_path: Path) -> None:
    names = [["i0", "One"], ["i8", '"Iron Orchard'], ["i9", 'Jade Window"'], ["i10", "Ten"]]
    path = dataset(tmp_path, {"items.csv": delimited(("item_id", "title"), names)}, top='unknown_items = "keep"')
    found = tables(path)
    assert found.items["item_id"].to_list() == ["i0", "i9", "i10"]
    assert found.rejected.filter(pl.col("table") == "items").select("line", "text").rows() == [(3, 'i8,"Iron Orchard')]
    assert told(check(path).problems, 'quotes are text in this file: set items.quote = ""')
    letters = [["a", '"Iron, Orchard'], ["b", 'Jade, Window"'], ["c", "Ten"]]
    path = dataset(tmp_path, {"items.csv": delimited(("item_id", "title"), letters)}, top='unknown_items = "keep"')
    assert told(check(path).warnings, "items.csv, line 2: 1 record holds line ends", 'set items.quote = ""')


def test_literals_of_python_are_read_as_json_is(tmp_path: Path) -> None:
    rows = [
        repr({"asin": item, "title": title + "'s", "price": float("nan"), "categories": [["Books", "Fiction"]]})
        for item, title in titles().items()
    ]
    ran = tmp_path / "ran"
    evil = f"{{'asin': __import__('os').system('touch {ran}'), 'title': 'x'}}"
    deep = "{'asin': " + "[" * 5000 + "]" * 5000 + "}"
    path = dataset(
        tmp_path,
        {"meta.json": "\n".join([*rows, evil, deep]).encode()},
        items='file = "meta.json"',
        item_columns='{ item_id = "asin", title = "title", kind = { column = "categories.0", pick = -1 } }',
    )
    found = tables(path)
    assert found.items["title"].to_list() == [title + "'s" for title in titles().values()]
    assert set(found.items["kind"]) == {"Fiction"}
    assert found.rejected.select("line", "reason").rows() == [(13, "no JSON object"), (14, "no JSON object")]
    assert not ran.exists()


def test_nan_in_json_costs_no_row_but_that_of_its_rating(tmp_path: Path) -> None:
    ratings = [
        dict(zip(HEADER, row, strict=True)) | ({"rating": float("nan")} if n == 3 else {})
        for n, row in enumerate(world())
    ]
    items = [
        {"item_id": item, "title": title, "price": 3.5 if item == "i0" else float("nan"), "most": float("inf")}
        for item, title in titles().items()
    ]
    path = dataset(
        tmp_path,
        {"r.jsonl": json_lines(ratings), "i.jsonl": json_lines(items)},
        interactions='file = "r.jsonl"',
        items='file = "i.jsonl"',
        item_columns='{ item_id = "item_id", title = "title", price = "price" }',
    )
    found = tables(path)
    assert found.items.height == 12 and set(found.items["price"]) == {"", "3.5"}
    assert found.rejected.select("line", "reason").rows() == [(4, "rating is not a number")]


def test_lists_within_lists_are_reached_by_a_path_and_told_without_one(tmp_path: Path) -> None:
    paths = [["Books", "Fiction", "Crime"], ["Books", "Gifts"]]
    items = [
        {"item_id": item, "title": title, "categories": paths, "brand": {"name": "Lumo"}}
        for item, title in titles().items()
    ]
    columns = '{ item_id = "item_id", title = "title", kind = { column = "%s", pick = -1 }, brand = "brand.name" }'
    frame = pl.DataFrame(items)
    for name, content in {"i.json": json_lines(items), "i.parquet": parquet(frame)}.items():
        path = dataset(tmp_path, {name: content}, items=f'file = "{name}"', item_columns=columns % "categories")
        assert told(check(path).warnings, "items.columns.kind reads lists within a list", 'column = "categories.0"')
        path = dataset(tmp_path, {name: content}, items=f'file = "{name}"', item_columns=columns % "categories.0")
        assert not told(check(path).warnings, "kind")
        assert set(tables(path).items.select("kind", "brand").rows()) == {("Crime", "Lumo")}


def test_words_for_nothing_are_no_id(tmp_path: Path) -> None:
    rows = [
        ("NULL" if n % 9 == 0 else user, item, rating, time) for n, (user, item, rating, time) in enumerate(world())
    ]
    files = {"ratings.csv": delimited(HEADER, rows)}
    found = check(dataset(tmp_path, files))
    assert told(found.warnings, "16 of 144 rows (11.11%) have the user_id 'NULL'", 'set interactions.empty = ["NULL"]')
    path = dataset(tmp_path, files, interactions='file = "ratings.csv"\nempty = ["NULL"]', top="max_rejected = 0.2")
    made = tables(path)
    assert "NULL" not in made.interactions["user_id"] and set(made.rejected["reason"]) == {"empty user id"}
    assert made.rejected.height == 16 and told(check(path).warnings, "16 of 144 ratings", "empty user id")


def test_times_that_are_unknown_are_told_among_real_ones(tmp_path: Path) -> None:
    rows = [(user, item, rating, 0 if n % 8 == 0 else time) for n, (user, item, rating, time) in enumerate(world())]
    files = {"ratings.csv": delimited(HEADER, rows)}
    hint = 'set timestamp = { column = "timestamp", empty = ["0"] }'
    assert told(check(dataset(tmp_path, files)).warnings, "18 of 144 times (12.50%) lie before 1980, as '0'", hint)
    columns = INTERACTIONS.replace('timestamp = "timestamp"', hint.removeprefix("set "))
    path = dataset(tmp_path, files, columns=columns, top="max_rejected = 0.2")
    assert check(path).problems == [] and tables(path).interactions["timestamp"].to_numpy().min() > 1_500_000_000


@pytest.mark.parametrize("rating", ['"recommend"', '{ column = "recommend", values = { true = 1, false = 0 } }'])
def test_truth_is_a_rating(tmp_path: Path, rating: str) -> None:
    rows = [{"user_id": u, "item_id": i, "recommend": r > 3, "timestamp": t} for u, i, r, t in world()]
    path = dataset(
        tmp_path,
        {"r.json": json_lines(rows)},
        interactions='file = "r.json"',
        columns=INTERACTIONS.replace('"rating"', rating),
        label="scale = [0, 1]\nlike_above = 0",
    )
    found = check(path)
    assert found.problems == [] and not told(found.warnings, "no effect")
    assert tables(path).interactions["rating"].to_list() == [float(r > 3) for _, _, r, _ in world()]


def test_words_may_be_ratings_and_where_keeps_some_events(tmp_path: Path) -> None:
    kinds = ("view", "cart", "purchase")
    rows = [(u, i, kinds[r % 3], f"{t}") for u, i, r, t in world()]
    files = {"events.csv": delimited(("user_id", "item_id", "event_type", "timestamp"), rows)}
    values = "{ view = 1, cart = 2, purchase = 3 }"
    rated = dataset(
        tmp_path,
        files,
        interactions='file = "events.csv"',
        columns=INTERACTIONS.replace('"rating"', f'{{ column = "event_type", values = {values} }}'),
        label="scale = [1, 2, 3]\nlike_above = 2",
    )
    assert tables(rated).interactions["rating"].to_list() == [float(r % 3 + 1) for _, _, r, _ in world()]
    bought = [row for row in rows if row[2] == "purchase"]
    path = dataset(
        tmp_path,
        files,
        interactions='file = "events.csv"\nwhere = { event_type = "purchase" }',
        columns='{ user_id = "user_id", item_id = "item_id", timestamp = "timestamp" }',
        label="negatives = 1",
    )
    assert tables(path).interactions.height == len(bought)
    assert check(path).figures["refused"]["interactions: not chosen by where"] == len(rows) - len(bought)
    wrong = dataset(
        tmp_path, files, interactions='file = "events.csv"\nwhere = { kind = "purchase" }', columns=INTERACTIONS
    )
    assert told(check(wrong).problems, "kind")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_ids_with_a_fraction_are_whole_numbers(tmp_path: Path, kind: str) -> None:
    rows = RATED.with_columns(pl.col("user_id").str.strip_prefix("u").cast(pl.Float64))
    users = pl.DataFrame({"user_id": list(range(16)), "town": ["Ulm"] * 16})
    files = {
        f"r.{kind}": parquet(rows) if kind == "parquet" else rows.write_csv().encode(),
        f"users.{kind}": parquet(users) if kind == "parquet" else users.write_csv().encode(),
    }
    rest = f'[users]\nfile = "users.{kind}"\ncolumns = {{ user_id = "user_id", town = "town" }}'
    path = dataset(tmp_path, files, interactions=f'file = "r.{kind}"', rest=rest)
    found = check(path)
    assert told(found.warnings, "user_id is written as", ".0'", "it is read as")
    assert not told(found.warnings, "have no row") and set(tables(path).interactions["user_id"]) == {
        str(n) for n in range(16)
    }


@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_a_column_may_have_a_name_that_stands_for_several_elsewhere(tmp_path: Path, ending: str) -> None:
    rows = RATED.rename({"rating": "*"}).with_columns(pl.lit("x").alias("^.*$"))
    content = parquet(rows) if ending == "parquet" else json_lines(rows.rows(named=True))
    columns = INTERACTIONS.replace('rating = "rating"', 'rating = "*"')
    path = dataset(tmp_path, {f"r.{ending}": content}, interactions=f'file = "r.{ending}"', columns=columns)
    assert check(path).problems == [] and tables(path).interactions.drop("microsecond").equals(WANTED)
    assert read_sample(tmp_path / "data" / f"r.{ending}", tmp_path).frame.columns == rows.columns


def test_bytes_decimals_and_large_times_of_parquet_are_read(tmp_path: Path) -> None:
    rows = RATED.with_columns(
        pl.col("item_id").cast(pl.Binary),
        pl.col("rating").cast(pl.Decimal(3, 1)),
        pl.col("timestamp").cast(pl.UInt64) * 1000,
    )
    files = {"r.parquet": parquet(rows)}
    assert told(check(dataset(tmp_path, files, interactions='file = "r.parquet"')).problems, 'unit = "ms"')
    columns = INTERACTIONS.replace('timestamp = "timestamp"', 'timestamp = { column = "timestamp", unit = "ms" }')
    path = dataset(tmp_path, files, interactions='file = "r.parquet"', columns=columns)
    assert tables(path).interactions.drop("microsecond").equals(WANTED)


def test_the_sep_line_of_excel_decimal_commas_and_blanks_after_separators(tmp_path: Path) -> None:
    rows = [(u, i, f"{r},0", pl.Series([t]).cast(pl.Datetime("ms")).dt.strftime("%d.%m.%Y %H:%M")[0]) for u, i, r, t in
            ((u, i, r, t * 1000) for u, i, r, t in world())]  # fmt: skip
    files = {
        "ratings.csv": b"sep=;\r\n" + delimited(HEADER, rows, ";").replace(b"\n", b"\r\n"),
        "items.csv": "\n".join(["item_id, title", *(f'{i}, "{t}, or so"' for i, t in titles().items())]).encode(),
    }
    found = check(dataset(tmp_path, files))
    hint = 'time_format = "%d.%m.%Y %H:%M"'
    assert told(found.problems, "ratings.csv, line 3", hint) and not told(found.problems, "lacks")
    columns = INTERACTIONS.replace('timestamp = "timestamp"', f'timestamp = {{ column = "timestamp", {hint} }}')
    path = dataset(tmp_path, files, columns=columns)
    assert check(path).problems == []
    assert tables(path).interactions["rating"].to_list() == WANTED["rating"].to_list()
    assert tables(path).items["title"][0] == "Amber Harbour 0, or so"


def test_html_in_titles_is_text_and_joiners_stay_where_they_join(tmp_path: Path) -> None:
    names = {
        "i0": "Tom &amp; Jerry&#39;s <b>Best</b>",
        "i1": "می\u200cخواهم زنده بمانم",
        "i2": "\U0001f468\u200d\U0001f469\u200d\U0001f467 trip",
        "i3": "\u202eevil\u202c title",
        "i4": "Rock &amp;amp; Roll",
        "i5": "<Untitled>",
        "i6": "a < b & c",
        "i7": "x<br/>y",
    }
    items = [{"item_id": item, "title": names.get(item, title)} for item, title in titles().items()]
    found = tables(dataset(tmp_path, {"i.jsonl": json_lines(items)}, items='file = "i.jsonl"')).items["title"]
    shown = [clean_text(title) for title in found[:8]]
    assert shown[0].split() == ["Tom", "&", "Jerry's", "Best"] and shown[1:3] == [names["i1"], names["i2"]]
    assert shown[3:] == ["evil title", "Rock & Roll", "<Untitled>".replace("<", "("), "a < b & c", "x y"]


def test_ratings_that_are_no_numbers_are_refused_and_all_ways_to_write_one_are_read(tmp_path: Path) -> None:
    odd = ["nan", "NaN", "", "inf", "None", " 4 ", "4.0", "+4", "4e0", "4,0"]
    rows = [(u, i, odd[n] if n < len(odd) else r, t) for n, (u, i, r, t) in enumerate(world())]
    path = dataset(
        tmp_path, {"ratings.csv": delimited(HEADER, rows, ";")}, interactions='file = "ratings.csv"\nseparator = ";"'
    )
    found = tables(path)
    assert found.interactions["rating"][:5].to_list() == [4.0] * 5
    assert found.rejected.select("line", "reason").rows() == [(line, "rating is not a number") for line in range(2, 7)]


def test_of_repeated_ratings_the_latest_stays_and_the_others_are_counted(tmp_path: Path) -> None:
    u, i, r, t = world()[0]
    more = [(u, i, 1, t + 5), (u, i, 2, t + 5)]
    path = dataset(tmp_path, {"ratings.csv": delimited(HEADER, [*world(), *more])}, top="max_rejected = 0.05")
    found = tables(path)
    assert found.interactions.filter((pl.col("user_id") == u) & (pl.col("item_id") == i))["rating"].to_list() == [2.0]
    assert found.rejected["line"].to_list() == [2, 146] and r
    assert told(check(path).warnings, "2 of 146 ratings (1.37%) are repeated later")


def test_the_layout_of_movielens_25m_is_read(tmp_path: Path) -> None:
    movies = [
        "movieId,title,genres",
        '1,"Harbour, The (1995)",Drama|Crime',
        '2,"Lantern, Brass, A (1996)",(no genres listed)',
        "3,Copper Field,Comedy",
        '4,"Field (Champ, Le) (1988) ",Children|IMAX',
        "5,Long Night (2006–2007),Drama",
    ]
    rows = [(f"{n % 4}", f"{n % 5 + 1}", (n % 10 + 1) / 2, 1_600_000_000 + n) for n in range(20)]
    path = dataset(
        tmp_path,
        {
            "movies.csv": "\n".join(movies).encode(),
            "r.csv": delimited(("userId", "movieId", "rating", "timestamp"), rows),
        },
        interactions='file = "r.csv"',
        columns='{ user_id = "userId", item_id = "movieId", rating = "rating", timestamp = "timestamp" }',
        items='file = "movies.csv"\nempty = ["(no genres listed)"]',
        item_columns="""{ item_id = "movieId", title = { column = "title",
            pattern = '^(.*?)\\s*(?:\\(\\d{4}[^)]*\\))?\\s*$',
            move_article = true }, year = { column = "title", pattern = '\\((\\d{4})[^)]*\\)\\s*$' },
            genres = { column = "genres", split = "|" } }""".replace("\n", " "),
        label="scale = [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]\nlike_above = 3",
    )
    assert tables(path).items.drop("item_id").rows() == [
        ("The Harbour", "1995", "Drama, Crime"), ("A Lantern, Brass", "1996", ""), ("Copper Field", "", "Comedy"),
        ("Field (Le Champ)", "1988", "Children, IMAX"), ("Long Night", "2006", "Drama"),
    ]  # fmt: skip


def test_a_list_for_each_user_is_told_as_one_thing(tmp_path: Path) -> None:
    by_user: dict[str, list[tuple[str, int, int]]] = {}
    for user, item, rating, time in world():
        by_user.setdefault(user, []).append((item, rating, time))
    rows = [(user, *(" ".join(map(str, part)) for part in zip(*found, strict=True))) for user, found in by_user.items()]
    header = ("user_id:token", "items:token_seq", "ratings:float_seq", "times:float_seq")
    columns = '{ user_id = "user_id", item_id = "items", rating = "ratings", timestamp = "times" }'
    path = dataset(
        tmp_path, {"seq.inter": delimited(header, rows, "\t")}, interactions='file = "seq.inter"', columns=columns
    )
    found = check(path).problems
    assert len(found) == 1 and told(found, "a row holds a whole list", "one row must be one rating")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: 1, ("every rating is 1", "implicit feedback", "negatives = 1")),
        (lambda r: r - 0.123456, ("continuous ratings", "round them", "negatives = 1")),
        (lambda r: r, ()),
    ],
)
def test_ratings_that_are_none_are_told_what_they_are(tmp_path: Path, change: object, words: tuple[str, ...]) -> None:
    assert callable(change)
    rows = [
        (u, i, change(r) + (n / 1e4 if "continuous ratings" in words else 0), t)
        for n, (u, i, r, t) in enumerate(world())
    ]
    found = check(dataset(tmp_path, {"ratings.csv": delimited(HEADER, rows)}))
    assert told(found.problems, *words) if words else found.problems == []


def test_play_counts_are_told(tmp_path: Path) -> None:
    rows = [(u, i, r * (n + 1), t) for n, (u, i, r, t) in enumerate(world())]
    found = check(dataset(tmp_path, {"ratings.csv": delimited(HEADER, rows)}))
    assert told(found.problems, "counts, as of plays", "negatives = 1")


def test_a_split_of_one_class_says_what_to_change(tmp_path: Path) -> None:
    rows = [(u, i, 5 if n > 100 else r, t) for n, (u, i, r, t) in enumerate(world())]
    found = check(dataset(tmp_path, {"ratings.csv": delimited(HEADER, rows)}))
    assert told(found.problems, "the test split has", "all of them liked", "change like_above", 'set split = "user"')


def test_users_without_an_item_left_are_counted(tmp_path: Path) -> None:
    rows = [("all", f"i{n}", 1_600_000_000 + n) for n in range(12)] + [(u, i, t) for u, i, _, t in world()]
    columns = '{ user_id = "user_id", item_id = "item_id", timestamp = "timestamp" }'
    files = {"ratings.csv": delimited(("user_id", "item_id", "timestamp"), rows)}
    found = check(dataset(tmp_path, files, columns=columns, label="negatives = 1"))
    assert told(found.warnings, "have touched (nearly) every item, as 'all'", "cannot be drawn")


def test_ids_that_differ_in_form_only_are_shown(tmp_path: Path) -> None:
    for known, used, what in (
        ("caf\u00e9 %s", "cafe\u0301 %s", "NFC"),
        ("A%s", "a%s", "case"),
        ("%s", "00%s", "leading zeros"),
    ):
        items = delimited(("item_id", "title"), [(known % item, title) for item, title in titles().items()])
        rows = [(u, used % i, r, t) for u, i, r, t in world()]
        found = check(dataset(tmp_path, {"items.csv": items, "ratings.csv": delimited(HEADER, rows)}))
        assert told(found.problems, "does not list", "most differ from listed ids only", what)
