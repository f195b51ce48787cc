"""`rallrec new`: files that nobody has described become a dataset, or one question."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.datasets.catalog import load_dataset
from rallrec_pipeline.datasets.drafting.new import NewDataset, new_dataset
from rallrec_pipeline.datasets.drafting.values import scale_of
from rallrec_pipeline.errors import ConfigError, DataError
from rallrec_pipeline_tests.datasets.brought import (
    Files,
    delimited,
    items_csv,
    json_lines,
    ratings_csv,
    tables,
    titles,
    told,
    world,
    write,
)


def new(root: Path, files: Files, *names: str) -> NewDataset:
    folder = write(root, files)
    lake = root / "lake"
    (lake / "catalog").mkdir(parents=True)
    paths = [folder / name for name in (names or files)]
    return new_dataset(paths, lake / "catalog" / "shop.toml", lake)


def test_plain_files_become_a_ready_dataset_with_a_comment_at_each_guess(tmp_path: Path) -> None:
    done = new(tmp_path, {"ratings.csv": ratings_csv(), "items.csv": items_csv()})
    assert done.report.problems == [] and done.decisions == []
    spec = load_dataset(done.path)
    assert spec.label.scale == (1, 2, 3, 4, 5) and spec.interactions.columns["timestamp"].column == "timestamp"
    assert tables(done.path).interactions.height == len(world())
    text = done.path.read_text(encoding="utf-8")
    assert 'location = "../../data"' in text and "# the first rows hold 1, 2, 3, 4, 5" in text


def test_the_original_movielens_is_told_by_its_values(tmp_path: Path) -> None:
    rows = [(u[1:], i[1:], r, t) for u, i, r, t in world()]
    item = "".join(f"{i[1:]}|Lantern é {n}, The (1995)|01-Jan-1995||http://x/0|0|1\n" for n, i in enumerate(titles()))
    done = new(tmp_path, {"u.data": delimited((), rows, "\t"), "u.item": item.encode("latin-1")})
    assert done.report.problems == []
    assert tables(done.path).items.row(3) == ("3", "The Lantern é 3", "1995")


def test_titles_that_all_hold_a_comma_keep_their_quotes(tmp_path: Path) -> None:
    rows = [(item, f'"{title}, The (1995)"', f"Drama|{item}") for item, title in titles().items()]
    items = delimited(("movieId", "title", "genres"), rows)
    done = new(tmp_path, {"ratings.csv": ratings_csv(), "movies.csv": items})
    assert done.report.problems == [] and load_dataset(done.path).items.quote == '"'
    assert tables(done.path).items.row(0) == ("i0", "The Amber Harbour 0", "1995", "Drama, i0")


def test_gzipped_reviews_and_metadata_of_amazon_s_layout(tmp_path: Path) -> None:
    reviews = [
        {"overall": float(r), "verified": True, "reviewTime": "09 13, 2020", "reviewerID": u, "asin": i,
         "reviewText": "fine", "unixReviewTime": t} for u, i, r, t in world()
    ]  # fmt: skip
    meta = [
        {"category": ["Movies & TV", f"Genre {n % 3}"], "title": title, "brand": f"Brand {n % 4}", "asin": item,
         "imageURL": [f"https://x/{n}"]} for n, (item, title) in enumerate(titles().items())
    ]  # fmt: skip
    files = {"Movies_and_TV.json.gz": json_lines(reviews), "meta_Movies_and_TV.json.gz": json_lines(meta)}
    done = new(tmp_path, {name: gzip.compress(content) for name, content in files.items()})
    spec = load_dataset(done.path)
    assert done.report.problems == [] and spec.words.item == "movie"
    assert {name: column.column for name, column in spec.interactions.columns.items()} == {
        "user_id": "reviewerID", "item_id": "asin", "rating": "overall", "timestamp": "unixReviewTime",
    }  # fmt: skip
    assert set(spec.item_fields) == {"category", "brand"}


def test_a_folder_gives_its_tables_and_says_which_it_leaves(tmp_path: Path) -> None:
    tags = delimited(("userId", "movieId", "tag", "timestamp"), [(u, i, "fun", t) for u, i, _, t in world()[:20]])
    ratings = delimited(("userId", "movieId", "rating", "timestamp"), [(u, i, r / 2, t) for u, i, r, t in world()])
    movies = delimited(("movieId", "title", "genres"), [(i, f"{t} (1995)", f"Drama|{i}") for i, t in titles().items()])
    done = new(tmp_path, {"ml/ratings.csv": ratings, "ml/movies.csv": movies, "ml/tags.csv": tags}, "ml")
    spec = load_dataset(done.path)
    assert done.report.problems == [] and spec.scale == (0.5, 1, 1.5, 2, 2.5)
    assert spec.item_fields == ("year", "genres") and spec.items.columns["genres"].split == "|"
    assert "# Not used: tags.csv" in done.path.read_text(encoding="utf-8")


def test_a_log_of_events_keeps_purchases_and_continuous_ratings_are_left_out(tmp_path: Path) -> None:
    kinds = ("view", "purchase", "purchase")
    rows = [
        (f"2020-09-13 12:{n % 60:02}:{n // 60:02} UTC", kinds[r % 3], i, u) for n, (u, i, r, _) in enumerate(world())
    ]
    header = ("event_time", "event_type", "product_id", "user_id")
    done = new(tmp_path, {"events.csv": delimited(header, rows), "items.csv": items_csv()})
    spec = load_dataset(done.path)
    assert done.report.problems == [] and spec.is_implicit and spec.interactions.where == {"event_type": ("purchase",)}
    assert spec.interactions.columns["timestamp"].time_format == "%Y-%m-%d %H:%M:%S UTC"
    other = tmp_path / "other"
    rated = [(u, i, f"{r + n / 1000:.3f}", t) for n, (u, i, r, t) in enumerate(world())]
    files = {"ratings.csv": delimited(("user_id", "item_id", "rating", "timestamp"), rated), "items.csv": items_csv()}
    done = new(other, files)
    assert done.report.problems == [] and load_dataset(done.path).is_implicit
    assert "the ratings are continuous" in done.path.read_text(encoding="utf-8")


def test_words_for_nothing_and_unknown_times_are_refused_and_counted(tmp_path: Path) -> None:
    rows = [("NULL" if n % 11 == 0 else u, i, r, 0 if n % 13 == 0 else t) for n, (u, i, r, t) in enumerate(world())]
    header = ("user_id", "item_id", "rating", "timestamp")
    done = new(tmp_path, {"ratings.csv": delimited(header, rows), "items.csv": items_csv()})
    spec = load_dataset(done.path)
    assert done.report.problems == [] and spec.interactions.empty == ("NULL",)
    assert spec.interactions.columns["timestamp"].empty == ("0",) and 0.1 < spec.max_rejected < 0.25


def test_a_rating_that_is_huge_is_no_scale_of_that_many_steps() -> None:
    assert scale_of(pl.Series(["1", "2", "1e30"])).steps == [1, 2, 1e30]


def test_what_a_person_has_to_decide_is_one_question(tmp_path: Path) -> None:
    header = ("user_id", "item_id", "rating", "timestamp")
    rows = [(u, i, r, "2020-09-13" if n % 2 else "13.09.2020") for n, (u, i, r, _) in enumerate(world())]
    done = new(tmp_path, {"ratings.csv": delimited(header, rows), "items.csv": items_csv()})
    assert len(done.decisions) == 1 and told(done.decisions, "times are mixed")
    with pytest.raises(ConfigError, match=r"to decide: which column of numbers\.csv names the"):
        new(tmp_path / "other", {"numbers.csv": delimited(("a", "b"), [(n, n * 2) for n in range(9)])})


def test_nothing_is_written_over_and_faults_are_one_line(tmp_path: Path) -> None:
    new(tmp_path, {"ratings.csv": ratings_csv(), "items.csv": items_csv()})
    lake, data = tmp_path / "lake", tmp_path / "data"
    with pytest.raises(ConfigError, match="is there already"):
        new_dataset([data / "ratings.csv"], lake / "catalog" / "shop.toml", lake)
    with pytest.raises(ConfigError, match="file name must be"):
        new_dataset([data / "ratings.csv"], lake / "catalog" / "My Shop.toml", lake)
    with pytest.raises(DataError, match="there is no"):
        new_dataset([data / "nothing.csv"], lake / "catalog" / "other.toml", lake)
    (data / "list.json").write_text('["a",\n{"a": 2}]', encoding="utf-8")
    with pytest.raises(DataError, match="one JSON object per line"):
        new_dataset([data / "list.json"], lake / "catalog" / "other.toml", lake)


def test_the_command_writes_and_checks(tmp_path: Path) -> None:
    folder = write(tmp_path, {"ratings (1).csv": ratings_csv(), "Bücher.csv": items_csv()})
    out = tmp_path / "lake" / "catalog" / "shop.toml"
    files = [str(path) for path in sorted(folder.iterdir())]
    done = CliRunner().invoke(app, ["new", *files, "-o", str(out)], env={"RALLREC_LAKE": str(tmp_path / "lake")})
    assert done.exit_code == 0, done.output
    assert "wrote" in done.output and "ready: run `rallrec run shop`" in done.output
