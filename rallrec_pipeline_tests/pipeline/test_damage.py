"""A bit of any file of a finished lake turns over, size and time kept: it is found before use, named, and mended."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.errors import DamagedError, RallrecError
from rallrec_pipeline.lake import memo_file
from rallrec_pipeline.lake.files import file_sha256
from rallrec_pipeline.lake.memo_rows import KINDS, TRACES
from rallrec_pipeline.lake.sealed import write_sealed
from rallrec_pipeline.lake.store import all_records, lost_refs
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.context import SHARED
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.load import load
from rallrec_pipeline.pipeline.status.verify import Verified, verify_lake
from rallrec_pipeline.settings import ROLES, load_settings
from rallrec_pipeline_tests.lake.flips import flip, rewrite
from rallrec_pipeline_tests.lake.stored import stored_rows
from rallrec_pipeline_tests.pipeline.given import in_force_now, make_stages
from rallrec_pipeline_tests.pipeline.tiny import (
    SMALL,
    add_datasets,
    copied_world,
    ratings_file,
    replace_once,
    use_lake,
    write_ratings,
)

MADE = ("raw", "models", "results", "refs", "cache")
COMMANDS = (["status", SMALL], ["lineage", SMALL, "i3"], ["report", SMALL], ["check-model", SMALL])

KEPT = [kind for kind in KINDS if kind is not TRACES]
"""Rows that an ordinary run makes."""


@pytest.fixture(scope="module")
def lake(finished_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the finished lake, which each test leaves whole."""
    copy = copied_world(finished_world, tmp_path_factory.mktemp("damaged"))
    with pytest.MonkeyPatch.context() as patch:
        use_lake(copy, finished_world / "settings.toml", patch)
        patch.delenv("DAGSTER_HOME")
        assert materialize_dataset(SMALL, ["raw_files"]).error is None  # its source is named by another path now
        yield copy


@pytest.fixture
def chance() -> random.Random:
    return random.Random(18)


def files(lake: Path, wanted: Callable[[Path], bool] = lambda path: True) -> list[Path]:
    """Everything that runs have written, but for locks; links lead to it."""
    found = (path for folder in MADE for path in (lake / folder).rglob("*"))
    return sorted(path for path in found if path.is_file() and not path.is_symlink() and wanted(path))


def is_record(path: Path) -> bool:
    return path.name in ("manifest.json", ".source.json") or "refs" in path.parts


def verify(lake: Path) -> Verified:
    return verify_lake(lake, SMALL, "demo")


def names(path: Path, lake: Path, found: Verified) -> bool:
    """Whether the file, or the adapter that it is part of, is named, with a command or what else to do."""
    own = path.relative_to(lake).as_posix()
    told = [damage for damage in found.damages if own == damage.file or own.startswith(f"{damage.file}/")]
    assert all("\n" not in str(damage) and ("run" in damage.mend or "delete" in damage.mend) for damage in told)
    return bool(told)


def run(lake: Path) -> tuple[set[str], int]:
    """A run of every stage: which worked, and how many rows the LLM was asked."""
    memo_file._mended.clear()  # as in a process of its own
    done = make_stages(lake, SMALL, load_settings("demo"))
    worked = {name for name, made in done.items() if made}
    usages = (in_force_now(lake, SMALL, name).metadata.get("llm") or {} for name in worked)
    return worked, sum(usage.get("rows", 0) for usage in usages)


def versions(lake: Path) -> dict[str, str]:
    """What results hold; reports hold times, too."""
    return {name: in_force_now(lake, SMALL, name).data_version for name in STAGES if "report" not in name}


def test_a_flipped_bit_in_any_file_is_found_and_named(lake: Path, chance: random.Random) -> None:
    assert not verify(lake).damages
    everything, rows = files(lake), {kind.name: stored_rows(lake, kind) for kind in KEPT}
    assert len(everything) > 100 and verify(lake).files == len(everything)
    for path in everything:
        before = path.read_bytes()
        flip(path, chance)
        if not names(path, lake, verify(lake)):  # a bit that no row lies in
            assert path.suffix == ".sqlite", path
            assert all(stored_rows(lake, kind).equals(rows[kind.name]) for kind in KEPT)
        rewrite(path, before)
    assert not verify(lake).damages


def test_who_only_looks_says_one_line_or_reads_what_is_sound(lake: Path, chance: random.Random) -> None:
    """No panic of a library, no KeyError, no parse error: for a file of each kind."""
    kinds = {(path.relative_to(lake).parts[0], path.parent.name[:9], path.suffix): path for path in files(lake)}
    told = 0
    for path in chance.sample(sorted(kinds.values()), 12):
        before = path.read_bytes()
        flip(path, chance)
        for command in COMMANDS:
            error = CliRunner().invoke(app, command).exception
            if error is not None and not isinstance(error, SystemExit):
                assert isinstance(error, RallrecError), (path, command, error)
                assert "\n" not in str(error) and "Expecting" not in str(error), (path, command, error)
                told += 1
        rewrite(path, before)
    assert told


def test_damaged_records_and_refs_are_made_anew_without_the_llm(lake: Path, chance: random.Random) -> None:
    before = versions(lake)
    records = files(lake, is_record)
    ends = ("core_items", "item_descriptions", "text_embeddings", "predictions", "predictor", "raw_files")
    harmed = [p for p in records if p.name != "manifest.json" or p.parts[-3] in ends]
    for path in harmed:
        flip(path, chance)
    assert all(names(path, lake, verify(lake)) for path in harmed)
    assert run(lake) == (set(ends), 0)
    history = [path for dataset in (SMALL, SHARED) for path in lost_refs(lake, dataset)]
    assert history and all(path.parent.name == "history" for path in history), "nobody can make these anew"
    told = [path for path in records if path.parent.parent == lake / "models"]  # nor does a run need these
    for path in (*history, *told):
        path.unlink()
    assert not verify(lake).damages and versions(lake) == before


def test_a_damaged_record_beside_the_raw_files_is_written_anew(lake: Path, chance: random.Random) -> None:
    before, record = versions(lake), lake / "raw" / SMALL / ".source.json"
    content = record.read_bytes()
    flip(record, chance)
    assert names(record, lake, verify(lake))
    assert run(lake)[0] == {"raw_files"}
    assert not verify(lake).damages and versions(lake) == before and record.read_bytes() != content
    assert not run(lake)[0]


@pytest.mark.usefixtures("built_in_settings_only")
@pytest.mark.parametrize("record", [".source.json", ".redacted.json"])
@pytest.mark.parametrize("kind", ["pinned", "of a source that is gone"])
def test_a_damaged_record_that_nobody_writes_anew_is_removed_once(tmp_path: Path, kind: str, record: str) -> None:
    lake, raw = tmp_path / "lake", tmp_path / "lake" / "raw" / SMALL
    add_datasets(lake, SMALL)
    write_ratings(lake, SMALL)
    place = ratings_file(lake, SMALL).parent
    if kind == "pinned":
        files = "".join(
            f'[[source.files]]\nname = "{path.name}"\nsha256 = "{file_sha256(path)}"\n\n' for path in place.iterdir()
        )
        replace_once(lake / "catalog" / f"{SMALL}.toml", "[interactions]\n", f"{files}[interactions]\n")

    def works() -> bool:
        return make_stages(lake, SMALL, load_settings("demo"), "raw_files")["raw_files"]

    assert works()
    if kind != "pinned":
        place.rename(place.with_name("away"))
        assert works() and not works()
    if record == ".redacted.json":  # nobody is forgotten: as where the list of those who were has been deleted
        write_sealed(raw / record, {"files": {}})
    rewrite(raw / record, (raw / record).read_bytes().replace(b'"files"', b'"filer"'))
    assert names(raw / record, lake, verify(lake))
    assert works() and not works(), "once"
    assert not verify(lake).damages and not (raw / record).exists()
    assert {path.name for path in raw.iterdir()} - {".source.json"} == {"ratings.csv", "items.csv"}


def test_a_damaged_result_counts_as_missing_and_what_is_made_anew_is_the_same(
    lake: Path, chance: random.Random, capfd: pytest.CaptureFixture[str]
) -> None:
    before = versions(lake)
    harmed = files(lake, lambda path: not is_record(path) and "cache" not in path.parts)
    harmed = [path for path in harmed if "lora_adapter" not in path.parts]
    for path in harmed:
        flip(path, chance)
    found = verify(lake)
    assert all(names(path, lake, found) for path in harmed) and len(harmed) > 65
    told = CliRunner().invoke(app, ["status", SMALL, "--verify", "--json"])
    document = json.loads(told.stdout)
    assert told.exit_code == 1 and len(document["verified"]["damages"]) == len(found.damages)
    reasons = {name: asset["reasons"] for name, asset in document["datasets"][SMALL]["assets"].items()}
    assert all(reasons[name] == ["its files were damaged"] for name in STAGES if name != "lora_adapter")
    memo_file._mended.clear()
    done = materialize_dataset(SMALL)
    assert done.error is None
    lines = capfd.readouterr().err
    assert "core_items: made anew, as" in lines and "tables/core_items/small.parquet is damaged" in lines
    # Of the roles, which share a model, the first has fetched it.
    assert {name for name, worked in done.worked.items() if not worked} - set(ROLES) == {"lora_adapter"}
    assert not done.llm["rows"] and versions(lake) == before
    whole = CliRunner().invoke(app, ["status", SMALL, "--verify"])
    assert whole.exit_code == 0 and "are what was written" in whole.stdout


def test_of_the_caches_only_what_is_damaged_is_paid_for_again(lake: Path) -> None:
    before = versions(lake)
    for kind in KEPT:
        file = lake / "cache" / f"{kind.name}.sqlite"
        sound, key = file.read_bytes(), stored_rows(lake, kind)["key"][0].encode()
        at = sound.index(key) + len(key) + 2  # within the row itself
        rewrite(file, sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :])
    assert [damage.file for damage in verify(lake).damages] == [f"cache/{kind.name}.sqlite" for kind in KEPT]
    asked = ("item_descriptions", "title_embeddings", "description_embeddings", "predictions")
    for stage in asked:
        for record in all_records(lake, SMALL, stage):
            shutil.rmtree(record.folder(lake))
    worked, rows = run(lake)
    assert worked == set(asked)
    assert 2 <= rows <= 4, "one text, perhaps asked for twice, one vector or none, one score"
    assert not verify(lake).damages and versions(lake) == before


def test_a_damaged_adapter_comes_from_the_cache_and_one_that_is_damaged_there_is_tuned_anew(
    lake: Path, chance: random.Random
) -> None:
    before = versions(lake)
    folders = in_force_now(lake, SMALL, "lora_adapter").paths(lake)
    for file in ("provenance.json", "adapter_model.safetensors"):
        for folder in folders:
            flip(folder / file, chance)
    assert len(verify(lake).damages) == 4, "a copied lake shares no bytes"
    assert run(lake) == ({"lora_adapter"}, 0)
    assert not verify(lake).damages, "now they share them"
    flip(folders[0] / "provenance.json", chance)
    assert len(verify(lake).damages) == 2 and run(lake)[1]
    assert not verify(lake).damages and versions(lake) == before


def test_a_stage_alone_refuses_a_damaged_input_in_one_line(lake: Path, chance: random.Random) -> None:
    file = in_force_now(lake, SMALL, "core_items").paths(lake)[0]
    before = file.read_bytes()
    shutil.rmtree(in_force_now(lake, SMALL, "title_embeddings").folder(lake))
    flip(file, chance)
    error = materialize_dataset(SMALL, ["title_embeddings"]).error
    assert error is not None and "\n" not in error
    assert f"{file} of core_items of 'small' is damaged: run `rallrec run small --select core_items`" in error
    with pytest.raises(DamagedError, match="is damaged: run `rallrec run small --select core_items` to make it anew"):
        load("tables/core_items", SMALL, lake=lake)
    rewrite(file, before)
    assert load("tables/core_items", SMALL, lake=lake).height == 10
    assert materialize_dataset(SMALL, ["title_embeddings"]).error is None and not verify(lake).damages
