"""What `auto` is: decided by the instructions of the processor, the same in every process, and told."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallrec_pipeline.language_models import dtypes
from rallrec_pipeline.language_models.dtypes import NumberType, auto_dtype, by_instructions, dtype_told
from rallrec_pipeline.settings import ModelSettings

X86 = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f {}\n"


@pytest.mark.parametrize(
    ("cpuinfo", "name", "reason"),
    [
        (X86.format("amx_tile amx_bf16 avx512_bf16"), "bfloat16", "AMX"),
        (X86.format("avx512_bf16"), "bfloat16", "AVX-512 BF16"),
        (X86.format("amx_tile amx_int8"), "float32", "no instructions"),  # a name within another is none
        ("Features\t: fp asimd asimddp\n", "float32", "no instructions"),
    ],
)
def test_the_instructions_of_the_processor_decide(cpuinfo: str, name: str, reason: str) -> None:
    found = by_instructions(cpuinfo)
    assert found is not None and found.name == name and reason in found.reason


@pytest.mark.parametrize("cpuinfo", ["Features\t: fp asimd bf16\n", "", "vendor_id: unknown\n"])
def test_what_the_instructions_leave_open_is_timed(cpuinfo: str) -> None:
    assert by_instructions(cpuinfo) is None


def test_timing_takes_bfloat16_only_where_it_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"float32": 1.1, "bfloat16": 1.0}
    monkeypatch.setattr(dtypes, "_product_seconds", seconds.__getitem__)
    assert dtypes._timed().name == "float32"
    seconds["bfloat16"] = 0.5
    assert dtypes._timed() == NumberType("bfloat16", "timed: bfloat16 has 2.2 times the speed of float32")


def test_nothing_is_timed_where_the_instructions_decide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So every process finds the same, however busy the cores are."""
    monkeypatch.setattr(dtypes, "_timed", lambda: pytest.fail("timed"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(dtypes, "CPUINFO", tmp_path / "cpuinfo")
    for flags, name in (("amx_bf16", "bfloat16"), ("avx2", "float32")):
        (tmp_path / "cpuinfo").write_text(X86.format(flags), encoding="utf-8")
        assert auto_dtype.__wrapped__().name == name


def test_what_is_taken_is_told_with_its_reason() -> None:
    assert dtype_told(ModelSettings(dtype="float16"), None) == "float16 (model.dtype)"
    assert dtype_told(ModelSettings(), None) == f"{auto_dtype().name} (auto: {auto_dtype().reason})"
