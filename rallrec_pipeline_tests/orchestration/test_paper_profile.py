"""The paper profile on a random small Llama of the same configuration, from a local folder; and unfit models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.errors import ModelError, RallrecError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.language_models.sizing.model_files import small_files
from rallrec_pipeline.pipeline.graph import GRAPH
from rallrec_pipeline.pipeline.readiness import check_run_model, long_prompts
from rallrec_pipeline.settings import ROLES, Settings, load_settings
from rallrec_pipeline_tests.language_models.small_llama import edit_config, write_llama
from rallrec_pipeline_tests.pipeline.given import in_force_now, make_stages
from rallrec_pipeline_tests.pipeline.tiny import SIZES, make_world

# Where there is no GPU the engine is another one.
SETTINGS = f"""
[model]
source = "{{source}}"
name = "small-llama"
engine = "transformers"
tokens_per_batch = 4096
{SIZES}
epochs = 1
tokens_per_batch = 4096
{{tuning}}
"""


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = make_world(tmp_path, monkeypatch, ("slice",))
    write_llama(tmp_path / "llama")
    use_settings(tmp_path)
    monkeypatch.setenv("RALLREC_PROFILE", "paper")
    return made


def use_settings(root: Path, tuning: str = "", source: str = "") -> Settings:
    file = root / "settings.toml"
    file.write_text(SETTINGS.format(source=source or root / "llama", tuning=tuning), encoding="utf-8")
    return load_settings("paper", overrides=file)


def run(lake: Path, settings: Settings, *names: str, say: Callable[[str], None] = lambda line: None) -> None:
    make_stages(lake, "slice", settings, *names, log=say)


def test_the_whole_profile_runs_on_a_model_from_a_local_folder(lake: Path, tmp_path: Path) -> None:
    settings = use_settings(tmp_path)
    assert (settings.profile, settings.model.dtype, settings.model.load_in_8bit) == ("paper", "bfloat16", True)
    run(lake, settings)
    assert in_force_now(lake, "slice", "predictor").metadata["source"] == str(tmp_path / "llama")
    assert not list((lake / "models" / "small-llama").glob("*.bin"))
    predicted = pl.read_parquet(tables.predictions_table("rallrec").file(lake, "slice"))
    assert predicted.height >= 10 and predicted["p_yes"].is_between(0, 1).all() and predicted["p_yes"].n_unique() > 1
    vectors = pl.read_parquet(list(tables.embeddings_table("title").file(lake, "slice").glob("*.parquet")))
    assert vectors["vector"].dtype == pl.Array(pl.Float32, 64)
    # The prompts that are there now are counted, no estimate is left.
    prompts = list(long_prompts(lake, settings, get_dataset("slice", lake)))
    assert all(prompt.text for prompt in prompts)
    assert {prompt.use for prompt in prompts} == {"generate", "score", "tune"}
    assert check_run_model(lake, settings, "slice").problems == []


def test_an_unfit_model_is_refused_before_it_is_fetched_with_all_that_is_wrong(lake: Path, tmp_path: Path) -> None:
    edit_config(tmp_path / "llama", max_position_embeddings=128, auto_map={"AutoConfig": "own.Config"})
    (tmp_path / "llama" / "model.safetensors").unlink()
    settings = use_settings(tmp_path, 'modules = ["query"]')
    with pytest.raises(ModelError) as caught:
        run(lake, settings, "predictor")
    lines = str(caught.value).splitlines()
    assert lines[0] == f"the model small-llama cannot run here, {len(lines) - 1} problems to mend:"
    for words in ("no *.safetensors", "auto_map", "names 'query'", "the model's context is 128"):
        assert any(words in line for line in lines[1:]), words
    assert not (lake / "models").exists() and not (lake / "refs").exists()
    shown = CliRunner().invoke(app, ["check-model"])
    assert shown.exit_code == 1 and f"not ready: {len(lines) - 1} problems to mend" in shown.output
    told = CliRunner().invoke(app, ["run", "slice", "--select", "predictor"])
    assert isinstance(told.exception, RallrecError) and str(told.exception) == str(caught.value)


def test_a_change_of_settings_is_refused_before_the_weights_are_loaded(lake: Path, tmp_path: Path) -> None:
    names = [stage.name for stage in GRAPH if stage.group in ("raw", "data")]
    run(lake, use_settings(tmp_path), *names, *ROLES)
    assert CliRunner().invoke(app, ["check-model", "slice"]).exit_code == 0
    edited = use_settings(tmp_path, 'modules = ["query", "v_proj"]\ncutoff_tokens = 10')
    (tmp_path / "llama" / "model.safetensors").rename(tmp_path / "moved")  # the lake has its own copy
    said: list[str] = []
    with pytest.raises(ModelError, match="2 problems") as caught:
        run(lake, edited, "item_descriptions", say=said.append)
    assert "tuning.cutoff_tokens is 10" in str(caught.value) and not any("loading" in line for line in said)
    assert not tables.ITEM_DESCRIPTIONS.exists(lake, "slice") and not (lake / "cache").exists()


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as is asked for a model's files."""

    folder: Path
    asked: list[str]

    def do_GET(self) -> None:
        name = self.path.split("?")[0].rpartition("/")[2]
        self.asked.append(name)
        if self.path.startswith("/api/models/"):
            files = [*(file.name for file in self.folder.iterdir()), "original/params.json"]
            body = pl.DataFrame({"rfilename": files}).to_dicts()
            self._answer(_json({"id": "owner/small", "sha": "a" * 40, "siblings": body}))
        else:
            self._answer((self.folder / name).read_bytes())

    do_HEAD = do_GET

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        for name, value in (("ETag", '"1"'), ("X-Repo-Commit", "a" * 40), ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _json(value: object) -> bytes:
    import json

    return json.dumps(value).encode()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    write_llama(tmp_path / "llama")
    Hub.folder, Hub.asked = tmp_path / "llama", []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield Hub
    server.shutdown()
    server.server_close()


def test_of_a_hub_only_what_is_small_is_fetched(hub: type[Hub]) -> None:
    with small_files("owner/small") as files:
        assert files is not None and "model.safetensors" in files.names
        assert (files.folder / "config.json").exists() and (files.folder / "tokenizer.json").exists()
        assert not (files.folder / "model.safetensors").exists()
        place = files.folder
    assert not place.exists() and "model.safetensors" not in hub.asked and "params.json" not in hub.asked
