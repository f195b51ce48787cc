"""How the UI shows where the rows of a table come from."""

from __future__ import annotations

import polars as pl

from rallrec_pipeline.pipeline.stages.rows import SHOWN_VERSIONS, provenance_table


def rows(runs: list[str]) -> pl.DataFrame:
    """One row of provenance for each run."""
    number = range(len(runs))
    return pl.DataFrame(
        {
            "item_id": [f"i|{n}" for n in number],
            "core_items_version": ["c" * 32] * len(runs),
            "input_hash": ["h" * 32] * len(runs),
            "template_version": ["1"] * len(runs),
            "model_fingerprint": ["m" * 32] * len(runs),
            "data_version": ["d" * 32] * len(runs),
            "run_id": runs,
            "created_at": [f"2026-01-0{1 + n % 9}T02:03:04+00:00" for n in number],
        }
    )


def test_versions_in_use_come_with_their_rows_and_times_the_most_used_first() -> None:
    lines = provenance_table(rows(["one", "two", "two"])).splitlines()
    assert lines[0] == "| template | model | run | rows | first made | last made |"
    model = f"`{'m' * 12}…`"
    assert lines[2] == f"| `1` | {model} | `two` | `2` | `2026-01-02 02:03` | `2026-01-03 02:03` |"
    assert lines[3] == f"| `1` | {model} | `one` | `1` | `2026-01-01 02:03` | `2026-01-01 02:03` |"


def test_three_rows_are_shown_with_their_chain_and_ids_stay_in_their_cells() -> None:
    lines = provenance_table(rows(["one"] * 9)).splitlines()
    start = lines.index("| item_id | core_items_version | input_hash | data_version | run_id |")
    examples = lines[start + 2 :]
    assert [line.split("`")[1] for line in examples] == ["i¦0", "i¦3", "i¦6"]
    assert all(line.count("|") == 6 and "`one`" in line for line in examples)


def test_of_many_versions_the_rest_is_counted() -> None:
    found = provenance_table(rows([str(n) for n in range(SHOWN_VERSIONS + 4)]))
    assert "… and 4 more versions" in found
