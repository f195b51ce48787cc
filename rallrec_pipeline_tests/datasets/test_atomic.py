"""The reader of atomic files: nothing but DataError, and no row that is neither in a table nor refused."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.fields import article_first
from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.datasets.tables import LATEST_S, MAX_TEXT, RawTables
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.parquet import check_schema
from rallrec_pipeline.lake.tables import INTERACTIONS, ITEMS, REJECTED_ROWS, USERS
from rallrec_pipeline_tests.datasets.worlds import (
    INTERACTIONS_HEADER,
    ITEMS_HEADER,
    USERS_HEADER,
    make_spec,
    write_raw,
)

SPEC = make_spec()
PLAIN = make_spec(
    items={
        "file": "s.item",
        "columns": {"title": "movie_title", "year": "release_year", "genres": {"column": "class", "split": " "}},
    }
)
VALUES = ("", " ", "1", "2", "3", "4", "9", "0", "-1", "2.5", "nan", "inf", "-inf", "1e300", "1e-3", "9" * 400, "x",
          "\x00", "1\x00", '"', '"1"', "'", "\ufeff", "é", "881250949", "9007199254740993")  # fmt: skip
PRINTABLE = st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"))
WORD = st.text(PRINTABLE, min_size=1, max_size=8)
ROWS = st.lists(st.lists(st.sampled_from(VALUES), min_size=1, max_size=6).map("\t".join), max_size=12)


def read(**files: bytes) -> RawTables:
    with TemporaryDirectory() as lake:
        write_raw(Path(lake), **files)
        return read_raw(SPEC, Path(lake))


def interaction_rows(*rows: str) -> bytes:
    return "\n".join([INTERACTIONS_HEADER, *rows, ""]).encode()


def reasons(tables: RawTables, file: str = "s.inter") -> dict[int, str]:
    return dict(tables.rejected.filter(pl.col("file") == file).select("line", "reason").iter_rows())


def check_tables(tables: RawTables) -> None:
    for rows, table in (
        (tables.interactions, INTERACTIONS),
        (tables.items, ITEMS),
        (tables.users, USERS),
        (tables.rejected, REJECTED_ROWS),
    ):
        check_schema(rows, table, "small")


@settings(max_examples=60)
@given(st.sampled_from(["inter", "item", "user"]), st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_a_one_line_data_error(kind: str, content: bytes) -> None:
    message = f"s.{kind}"
    try:
        check_tables(read(**{kind: content}))
    except DataError as error:
        message = str(error)
    assert f"s.{kind}" in message and len(message.splitlines()) == 1


@settings(max_examples=20)
@given(ROWS.map("\n".join).map(str.encode) | st.binary(max_size=200), st.sampled_from([b"\n", b"\r\n"]))
def test_every_row_of_any_file_is_in_a_table_or_refused(body: bytes, end: bytes) -> None:
    headers = {"inter": INTERACTIONS_HEADER, "item": ITEMS_HEADER, "user": USERS_HEADER}
    lines = body.decode(errors="replace").replace("\r\n", "\n").split("\n")
    lines = [line.removesuffix("\r") for line in lines]
    numbered = {number: line for number, line in enumerate(lines, 2) if line}
    for kind, header in headers.items():
        tables = read(**{kind: header.encode() + end + body})
        check_tables(tables)
        kept = {"inter": tables.interactions, "item": tables.items, "user": tables.users}[kind]
        refused = tables.rejected.filter(pl.col("file") == f"s.{kind}")
        assert kept.height + refused.height == len(numbered)
        assert refused["line"].n_unique() == refused.height
        assert all(numbered[line][:MAX_TEXT] == text for line, text in refused.select("line", "text").iter_rows())
        assert not refused["reason"].has_nulls()


def judge_one_by_one(rows: list[str]) -> tuple[dict[tuple[str, str], tuple[float, int]], set[int]]:
    """What the rules say, row by row: the ratings kept, and the numbers of the lines refused."""
    good: list[tuple[float, int, tuple[str, str], float]] = []
    for line, row in enumerate(rows, 2):
        fields = [field.strip(" ") for field in row.split("\t")]
        try:
            user, item, rating, time = fields[0], fields[1], float(fields[2]), float(fields[3])
        except (ValueError, IndexError):
            continue
        known = len(fields) == 4 and user != "" and item in {"1", "2", "3"}
        if known and rating in {1, 2, 3, 4, 5} and 0 <= time <= LATEST_S:
            good.append((time, line, (user, item), rating))
    latest = {pair: (time, line, rating) for time, line, pair, rating in sorted(good)}
    lines = {line for _, line, _ in latest.values()}
    refused = {line for line, row in enumerate(rows, 2) if row and line not in lines}
    return {pair: (rating, int(time)) for pair, (time, _, rating) in latest.items()}, refused


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(*[st.sampled_from(("1", "2", "3", "4", "9", *VALUES[:12]))] * 4).map("\t".join)
        | st.lists(st.sampled_from(VALUES), min_size=1, max_size=6).map("\t".join),
        max_size=12,
    )
)
def test_ratings_are_judged_as_row_by_row(rows: list[str]) -> None:
    tables = read(inter=interaction_rows(*rows))
    kept, refused = judge_one_by_one(rows)
    assert {(u, i): (r, t) for u, i, r, t, _ in tables.interactions.iter_rows()} == kept
    assert set(reasons(tables)) == refused


@settings(max_examples=20)
@given(st.data(), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.booleans())
def test_well_formed_files_come_back_whole(data: st.DataObject, end: str, mark: bool, last: bool) -> None:
    titles = data.draw(st.dictionaries(WORD, st.lists(WORD, max_size=3).map(" ".join), min_size=1, max_size=5))
    users = data.draw(st.lists(WORD, unique=True, min_size=1, max_size=5))
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(users), st.sampled_from(list(titles))), unique=True))
    ratings = [(u, i, float(data.draw(st.integers(1, 5))), data.draw(st.integers(0, LATEST_S))) for u, i in pairs]

    def encode(header: str, rows: list[str]) -> bytes:
        return end.join([("\ufeff" if mark else "") + header, *rows, *([""] if last else [])]).encode()

    with TemporaryDirectory() as lake:
        write_raw(
            Path(lake),
            encode(INTERACTIONS_HEADER, [f"{u}\t{i}\t{r}\t{t}" for u, i, r, t in ratings]),
            encode(ITEMS_HEADER, [f"{i}\t{title}\t1995\tDrama  War" for i, title in titles.items()]),
            encode(USERS_HEADER, [f"{u}\t24\tM\twriter\t85711" for u in users]),
        )
        tables = read_raw(PLAIN, Path(lake))
    assert tables.rejected.is_empty()
    assert tables.interactions.drop("microsecond").rows() == ratings
    assert tables.items.rows() == [(i, title, "1995", "Drama, War") for i, title in titles.items()]
    assert tables.users.rows() == [(u, "M", "24") for u in users]


def test_each_refusal_says_why() -> None:
    tables = read(
        inter=interaction_rows(
            "1\t1\t5\t10", "1\t2\t4", "1\t2\t4\t10\t11", "\t2\t4\t10", "1\t \t4\t10", "1\t2\tgood\t10", "1\t2\tnan\t10",
            "1\t2\t6\t10", "1\t2\t2.5\t10", "1\t2\t4\t-1", "1\t2\t4\t1e300", "1\t2\t4\tnan", "1\t2\t4\tinf",
            "1\t2\t4\t", "1\t99\t4\t10", "1\t1\t3\t9", "\t\t\t",
        )
    )  # fmt: skip
    assert tables.interactions.rows() == [("1", "1", 5.0, 10, 0)]
    assert reasons(tables) == {
        3: "3 fields instead of 4",
        4: "5 fields instead of 4",
        5: "empty user id",
        6: "empty item id",
        7: "rating is not a number",
        8: "rating is not a number",
        9: "rating is off the scale",
        10: "rating is off the scale",
        11: "impossible timestamp",
        12: "impossible timestamp",
        13: "impossible timestamp",
        14: "impossible timestamp",
        15: "impossible timestamp",
        16: "unknown item",
        17: "repeated rating, a later one stays",
        18: "empty user id",
    }


def test_the_latest_of_several_ratings_stays_and_of_equal_times_the_last() -> None:
    tables = read(inter=interaction_rows("1\t1\t1\t20", "1\t1\t2\t10", "2\t1\t3\t5", "2\t1\t4\t5"))
    assert tables.interactions.rows() == [("1", "1", 1.0, 20, 0), ("2", "1", 4.0, 5, 0)]
    assert set(reasons(tables)) == {3, 4}


def test_catalogues_keep_the_first_of_an_id_and_clean_their_fields() -> None:
    rows = [
        "1\tPostman, The\t1997\tDrama  Romance",
        "1\tOther\t1990\tWar",
        "\tNo id\t1990\tWar",
        "2\tunkonwn\tunkonwn\tunknown",
    ]
    tables = read(item="\n".join([ITEMS_HEADER, *rows]).encode())
    assert tables.items.rows() == [("1", "The Postman", "1997", "Drama, Romance"), ("2", "unkonwn", "", "unknown")]
    assert reasons(tables, "s.item") == {3: "repeated id, the first stays", 4: "empty id"}


def test_quotes_and_broken_utf8_are_plain_text() -> None:
    rows = b'1\t"Great Day in Harlem\t1994\tDrama\n2\t\xff"x"\t1994\tDrama\n'
    tables = read(item=ITEMS_HEADER.encode() + b"\n" + rows)
    assert tables.items["title"].to_list() == ['"Great Day in Harlem', '\ufffd"x"']


@pytest.mark.parametrize("kind", ["inter", "item", "user"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty or has no header"),
        (b"\n\n", "is empty or has no header"),
        (b"\xff\xfe\x00\x00", "the header must have"),
        (b"a:token\tb:token\n1\t2\n", "the header must have"),
        (f"{INTERACTIONS_HEADER}\t{ITEMS_HEADER}\t{USERS_HEADER}\n".encode() * 2, "once"),
    ],
)
def test_a_file_that_is_no_such_table_is_named(kind: str, content: bytes, what: str) -> None:
    if what == "once":  # every column twice
        first = content.split(b"\n")[0]
        content = first + b"\t" + first + b"\n"
    with pytest.raises(DataError, match=what) as caught:
        read(**{kind: content})
    assert f"s.{kind}" in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_header_only_files_give_empty_tables() -> None:
    tables = read(inter=INTERACTIONS_HEADER.encode(), item=ITEMS_HEADER.encode(), user=USERS_HEADER.encode())
    check_tables(tables)
    assert [t.height for t in (tables.interactions, tables.items, tables.users, tables.rejected)] == [0, 0, 0, 0]


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    folder = write_raw(tmp_path)
    (folder / "s.item").unlink()
    with pytest.raises(DataError, match=r"lacks s\.item: run `rallrec run small --select raw_files`"):
        read_raw(SPEC, tmp_path)


def test_a_dataset_without_a_user_file_has_an_empty_user_table(tmp_path: Path) -> None:
    write_raw(tmp_path)
    tables = read_raw(make_spec(users=None), tmp_path)
    assert tables.users.columns == ["user_id"] and tables.users.is_empty() and tables.interactions.height == 1


def moved(title: str) -> str:
    return str(pl.select(article_first(pl.lit(title))).item())


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("Postman, The", "The Postman"),
        ("Avventura, L'", "L'Avventura"),
        ("Nikita, La (Femme Nikita, La)", "La Nikita (La Femme Nikita)"),
        ("Big Blue, The (Grand bleu, Le)", "The Big Blue (Le Grand bleu)"),
        ("Good, The Bad and The Ugly, The", "The Good, The Bad and The Ugly"),
        ("Bye Bye, Love", "Bye Bye, Love"),
        ("The Net", "The Net"),
        (", The", ", The"),
        ("The", "The"),
        ("", ""),
    ],
)
def test_articles_move_to_the_front(raw: str, said: str) -> None:
    assert moved(raw) == said


@settings(max_examples=60)
@given(st.text(max_size=40))
def test_moving_articles_loses_no_letter(title: str) -> None:
    def letters(text: str) -> list[str]:
        return sorted(text.replace(" ", "").replace(",", ""))

    assert letters(moved(title)) == letters(title)
