"""Checkpoints in the middle of an epoch: a run that was broken off ends with the same weights; early stopping."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.settings import TuningSettings
from rallrec_pipeline.tuning.checkpoint import read_checkpoint, write_checkpoint
from rallrec_pipeline.tuning.lora import adapter_state
from rallrec_pipeline.tuning.result import TuningResult
from rallrec_pipeline.tuning.train import tune
from rallrec_pipeline_tests.tuning.tiny import TRIE, tiny_engine, tiny_examples

# Three steps an epoch. Dropout is on, so that the random numbers matter.
SETTINGS = TuningSettings(
    epochs=3, batch_size=3, dropout=0.2, patience=3, checkpoint_every=2, tokens_per_batch=64, learning_rate=1e-2
)
EXAMPLES = tiny_examples(8)
IN_EPOCH_2 = 5  # of nine steps

State = dict[str, torch.Tensor]


class Killed(Exception):
    pass


def kill_at(step: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        assert total == 9
        if done == step:
            raise Killed

    return progress


def run(
    aucs: list[float],
    path: Path | None = None,
    kill: int = 0,
    settings: TuningSettings = SETTINGS,
    lines: list[str] | None = None,
) -> tuple[TuningResult, State]:
    """Tune a tiny model from scratch; `aucs` are those of the validations to come."""
    engine = tiny_engine(settings)
    values = iter(aucs)
    log = (lambda line: None) if lines is None else lines.append
    result = tune(engine, EXAMPLES, TRIE, lambda: next(values), settings, 1, kill_at(kill), path, log)
    return result, adapter_state(engine)


@cache
def undisturbed(*aucs: float) -> tuple[TuningResult, State]:
    """The same to the end, without checkpoints."""
    return run(list(aucs))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run that was killed in epoch 2 has written."""
    path = tmp_path_factory.mktemp("killed") / "training.safetensors"
    with pytest.raises(Killed):
        run([0.5] * 3, path, kill=IN_EPOCH_2)
    return path.read_bytes()


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("aucs", [[0.6, 0.7, 0.5], [0.9, 0.4, 0.5], [0.4, 0.5, 0.6]])
def test_a_run_killed_in_epoch_2_ends_with_the_same_bytes(tmp_path: Path, aucs: list[float]) -> None:
    whole, wanted = undisturbed(*aucs)
    path, lines = tmp_path / "lake" / "training.safetensors", list[str]()
    with pytest.raises(Killed):
        run(aucs, path, kill=IN_EPOCH_2)
    resumed, found = run(aucs[1:], path, lines=lines)
    assert same(found, wanted)
    assert resumed.resumed_at == [4] and whole.resumed_at == []
    assert lines == ["tuning goes on after step 4 of 9"]
    assert resumed.best_epoch == whole.best_epoch == aucs.index(max(aucs)) + 1
    assert [e.loss for e in resumed.epochs] == [e.loss for e in whole.epochs]
    assert (resumed.tokens, resumed.computed) == (whole.tokens, whole.computed)
    assert whole.examples_now == 24 and resumed.examples_now == 5 + 8  # what was left of epoch 2, and epoch 3


def test_killed_twice_and_after_a_validation(tmp_path: Path) -> None:
    _, wanted = undisturbed(0.4, 0.5, 0.6)
    path = tmp_path / "training.safetensors"
    with pytest.raises(Killed):
        run([0.4], path, kill=1)  # before the first checkpoint
    with pytest.raises(Killed):
        run([0.4], path, kill=4)  # the validation of epoch 1 is not asked for again:
    with pytest.raises(Killed):
        run([0.5], path, kill=7)
    result, found = run([0.6], path)
    assert same(found, wanted) and result.resumed_at == [4, 6]
    assert [e.validation_auc for e in result.epochs] == [0.4, 0.5, 0.6]


def test_without_checkpoints_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "training.safetensors"
    run([0.5] * 3, path, settings=SETTINGS.model_copy(update={"checkpoint_every": 0}))
    assert not path.exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "of another version"])
def test_a_damaged_checkpoint_is_ignored_and_said(tmp_path: Path, checkpoint: bytes, damage: str) -> None:
    path, lines, content = tmp_path / "training.safetensors", list[str](), checkpoint
    broken = {
        "cut": content[:-100],
        "flipped": content[:-9] + bytes([content[-9] ^ 64]) + content[-8:],
        "empty": b"",
        "of another version": content.replace(b'"format":"1"', b'"format":"0"'),
    }
    assert broken[damage] != content
    path.write_bytes(broken[damage])
    result, found = run([0.4, 0.5, 0.6], path, lines=lines)
    _, wanted = undisturbed(0.4, 0.5, 0.6)
    assert result.resumed_at == [] and same(found, wanted)
    assert len(lines) == 1 and "begins anew" in lines[0] and "\n" not in lines[0]


def test_a_checkpoint_of_other_parameters_is_ignored_and_said(tmp_path: Path) -> None:
    path, lines = tmp_path / "training.safetensors", list[str]()
    other = SETTINGS.model_copy(update={"rank": 4})
    with pytest.raises(Killed):
        run([0.5] * 3, path, kill=IN_EPOCH_2, settings=other)
    result, _ = run([0.5] * 3, path, lines=lines)
    assert result.resumed_at == [] and "other parameters" in lines[0]


def test_a_checkpoint_is_safetensors_with_json_in_its_header(tmp_path: Path, checkpoint: bytes) -> None:
    path = tmp_path / "training.safetensors"
    path.write_bytes(checkpoint)
    place, tensors = read_checkpoint(path)
    assert place["step"] == 1 and len(place["losses"]) == 1 and len(place["epochs"]) == 1
    kinds = {name.split(".")[0] for name in tensors}
    assert kinds == {"adapter", "best", "optimizer", "random"}
    with safe_open(path, framework="np") as file:
        assert set(file.metadata()) == {"format", "place", "sha256"}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    tensors = {"a.b": torch.tensor([1.5, float("-inf")]), "c": torch.tensor(3.0), "d": torch.zeros(0, 2).bool()}
    place = {"step": 3, "losses": [0.1, 1 / 3]}
    write_checkpoint(tmp_path / "one", place, tensors)
    found_place, found = read_checkpoint(tmp_path / "one")
    assert found_place == place and same(found, tensors)
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(tmp_path / "two")


def test_tuning_stops_after_epochs_without_a_better_auc() -> None:
    settings = SETTINGS.model_copy(update={"patience": 1})
    result, stopped = run([0.7, 0.7], settings=settings)
    assert result.stopped_early and len(result.epochs) == 2 and result.best_epoch == 1
    assert result.as_dict()["stopped_early"] is True and result.examples_now == 16
    whole, kept = undisturbed(0.7, 0.7, 0.6)
    assert not whole.stopped_early and len(whole.epochs) == 3 and same(stopped, kept)
