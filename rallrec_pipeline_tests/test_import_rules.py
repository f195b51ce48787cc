"""The arrows between packages, and what may be imported when a module is loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import rallrec_pipeline

PACKAGE = Path(rallrec_pipeline.__file__).parent
NAME = PACKAGE.name

# A part may import parts of a lower rank and itself; parts of one rank do not know each other.
RANK = {
    "errors": 0,
    "text": 1,
    "finite": 1,
    "terminal": 1.5,
    "settings": 1,
    "lake": 2,
    "sources": 2.5,
    "language_models": 3,
    "datasets": 4,
    "descriptions": 5,
    "embeddings": 6,
    "retrieval": 7,
    "prompts": 8,
    "tuning": 9,
    "inference": 10,
    "baselines": 10,
    "reasoning": 10.5,
    "recommendation": 10.7,
    "evaluation": 11,
    "pipeline": 12,
    "orchestration": 13,
    "serving": 13,
    "definitions": 14,
    "cli": 14,
    "__init__": 14,
}
ROOMS = {"evaluation": ("measures", "reports", "plots", "pages")}
"""Packages within a part, lowest first: a room imports its own modules and those of rooms below."""
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "faiss",
    "vllm",
    "ray",
    "sklearn",
    "matplotlib",
    "deepctr_torch",
}
# These modules load torch when they are loaded, so they are loaded only when they are needed.
TORCH_MODULES = {
    "language_models.kernels.attention",
    "language_models.kernels.decoding",
    "language_models.kernels.forward",
    "language_models.kernels.packed_ends",
    "language_models.kernels.packing",
    "language_models.kernels.prefix",
    "language_models.kernels.workers",
    "language_models.engines.sentence_encoder",
    "language_models.engines.transformers_engine",
    "tuning.batches",
    "tuning.checkpoint",
    "tuning.dropout",
    "tuning.loss",
    "tuning.packed_attention",
    "tuning.pairs",
    "tuning.short_attention",
    "tuning.train",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_every_part_has_a_rank() -> None:
    parts = {_part(path) for path in MODULES}
    assert parts <= set(RANK), f"give these a rank: {sorted(parts - set(RANK))}"


def test_imports_point_down() -> None:
    upward = {_dotted(path): sorted(found) for path in MODULES if (found := _upward(path))}
    assert not upward, f"these must not import what stands beside them: {upward}"


def test_rooms_of_a_part_import_those_below() -> None:
    for part, rooms in ROOMS.items():
        files = [path for path in MODULES if _part(path) == part and path.parent != PACKAGE / part]
        assert {path.parent.name for path in files} == set(rooms)
        for path in files:
            known = {name.split(".")[1] for name in _own(path) if name.startswith(f"{part}.")}
            above = known - set(rooms[: rooms.index(path.parent.name) + 1])
            assert not above, f"{_dotted(path)} must not import {sorted(above)}"


def test_only_the_skin_knows_dagster() -> None:
    """In the skin every file but the package's own door does: what knows nothing of Dagster belongs to the floor."""
    knows = {_dotted(path) for path in MODULES if any(name.startswith("dagster") for name in _everywhere(path))}
    skin = {_dotted(path) for path in MODULES if _part(path) == "orchestration" and path.name != "__init__.py"}
    assert skin and knows == skin


def test_no_module_imports_itself_over_others() -> None:
    """No circle, inside a package neither; imports within functions and for types count too."""
    names = {_dotted(path).removesuffix(".__init__"): path for path in MODULES}
    graph = {name: {m for m in _own(path) if m in names} - {name} for name, path in names.items()}
    assert find_circle(graph) is None


def test_the_rule_finds_a_circle() -> None:
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) is not None
    assert find_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def find_circle(graph: dict[str, set[str]]) -> str | None:
    """What `graphlib` says of a circle; None where there is none."""
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return " -> ".join(error.args[1])
    return None


def test_heavy_packages_load_late() -> None:
    """At module level only TORCH_MODULES import heavy packages, and only they import one another."""
    early = {_dotted(path): sorted(found) for path in MODULES if (found := _loaded_early(path))}
    assert not early, f"import these within a function or under TYPE_CHECKING: {early}"


def test_the_torch_modules_exist() -> None:
    assert {_dotted(path) for path in MODULES} >= TORCH_MODULES


def test_the_graph_loads_without_heavy_packages() -> None:
    code = (
        f"import sys, rallrec_pipeline.definitions, rallrec_pipeline.cli; print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_rules_see_what_they_forbid() -> None:
    """The walk tells module level from functions and TYPE_CHECKING, and sees into `try` and classes."""
    source = """
import os
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import torch
else:
    import faiss
try:
    from sklearn import metrics
except ImportError:
    import matplotlib.pyplot
class A:
    import peft
    def method(self):
        import transformers
"""
    body = ast.parse(source).body
    assert set(_imports(body, everywhere=False)) - {"os"} == {
        "typing",
        "typing.TYPE_CHECKING",
        "faiss",
        "sklearn",
        "sklearn.metrics",
        "matplotlib.pyplot",
        "peft",
    }
    assert {"torch", "transformers"} <= set(_imports(body, everywhere=True))


def _upward(path: Path) -> set[str]:
    """Parts of its own rank or a higher one that a module imports."""
    part, own = _part(path), {_part_of(name) for name in _everywhere(path) if name.startswith(f"{NAME}.")}
    return {other for other in own - {part} if RANK[other] >= RANK.get(part, -1)}


def _loaded_early(path: Path) -> set[str]:
    """Heavy packages, and modules that load them, that a module imports when it is loaded, though it must not."""
    if _dotted(path) in TORCH_MODULES:
        return set()
    at_load = set(_imports(_tree(path).body, everywhere=False))
    return {name for name in at_load if name.split(".")[0] in HEAVY or name.removeprefix(f"{NAME}.") in TORCH_MODULES}


def _own(path: Path) -> set[str]:
    """Names below this package that a module imports: modules, doors of packages, and what these hold."""
    return {name.removeprefix(f"{NAME}.") for name in _everywhere(path)}


@cache
def _everywhere(path: Path) -> frozenset[str]:
    """Names that a module imports anywhere."""
    return frozenset(_imports(_tree(path).body, everywhere=True))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _part(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def _part_of(name: str) -> str:
    return name.split(".")[1]


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def _imports(body: list[ast.stmt], everywhere: bool) -> Iterator[str]:
    """Dotted names that `body` imports; without `everywhere` only those that run when the module is loaded.

    `from a import b` gives both `a` and `a.b`, since `b` may be a module.
    """
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            if module != NAME:  # `from rallrec_pipeline import lake` imports the part, not the package
                yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not everywhere:
            continue
        elif isinstance(node, ast.If) and _is_type_checking(node) and not everywhere:
            yield from _imports(node.orelse, everywhere)
        else:
            for nested in _blocks(node):
                yield from _imports(nested, everywhere)


def _is_type_checking(node: ast.If) -> bool:
    return ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The statement lists within a statement: body, else, finally, handlers, cases."""
    for _, value in ast.iter_fields(node):
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
            yield value
        elif isinstance(value, list):
            yield from (child.body for child in value if isinstance(child, ast.ExceptHandler | ast.match_case))
