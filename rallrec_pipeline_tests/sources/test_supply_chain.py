"""What comes from elsewhere: web addresses only, no secrets in words or records, and nothing that runs code."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rallrec_pipeline
from rallrec_pipeline.cli import app
from rallrec_pipeline.datasets.catalog import load_dataset
from rallrec_pipeline.datasets.raw_files import fetch_raw_files
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.sources.address import has_password, shown_address, without_secrets
from rallrec_pipeline.sources.collect import collect
from rallrec_pipeline.sources.source import Source, SourceFile, silent
from rallrec_pipeline.sources.url import download
from rallrec_pipeline_tests.datasets.brought import dataset
from rallrec_pipeline_tests.sources.web import served

PACKAGE = Path(rallrec_pipeline.__file__).parent
SECRET = "s3cret"
RUNS_CODE = re.compile(
    r"\b(?:import|from) (?:pickle|dill|joblib|marshal|shelve|cloudpickle)\b|\bpickle\.\w|torch\.load\(|np\.load\("
    r"|allow_pickle|yaml\.load\(|trust_remote_code=True|(?<![.\w])(?:eval|exec)\(|shell=True|os\.system\(|weights_only=False|extractall"
)
PLACES = ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "gopher://127.0.0.1/", "//127.0.0.1:1/x")


class Handler(BaseHTTPRequestHandler):
    """`/to?<address>` leads there, `/hop?<n>` leads on n times, `/huge` announces a terabyte, all else is a file."""

    def do_GET(self) -> None:
        path, _, rest = self.path.partition("?")
        if path == "/to":
            self.lead(rest)
        elif path == "/hop" and rest != "0":
            self.lead(f"/hop?{int(rest) - 1}")
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(10**12 if path == "/huge" else 4))
            self.end_headers()
            self.wfile.write(b"text")

    def lead(self, address: str) -> None:
        self.send_response(302)
        self.send_header("Location", address)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with served(Handler) as address:
        yield address


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def refusal(address: str, folder: Path) -> str:
    with pytest.raises(DataError) as told:
        download(address, folder, silent)
    assert "\n" not in str(told.value) and SECRET not in str(told.value)
    cause = told.value.__cause__ or told.value.__suppress_context__
    assert cause is True, "a traceback would show the address"
    return str(told.value)


def test_redirects_lead_to_web_addresses_only(server: str, tmp_path: Path) -> None:
    for place in PLACES[:-1]:
        said = refusal(f"{server}/to?{place}", tmp_path)
        assert "which is no plain web address" in said or "is not allowed" in said, place
    for start in PLACES[:-1]:
        with pytest.raises(DataError, match="is not a web address"):
            download(start, tmp_path, silent)
    assert "no plain web address" in refusal(f"{server}/to?http://user:{SECRET}@127.0.0.1/x", tmp_path)
    assert "cannot download" in refusal(f"{server}/hop?50", tmp_path)
    assert download(f"{server}/to?{server}/file", tmp_path, silent).read_bytes() == b"text"
    assert download(f"{server}/hop?3", tmp_path, silent).read_bytes() == b"text"


def test_what_says_that_it_fills_the_disk_is_refused_before_it_comes(server: str, tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 10**12:
        with pytest.raises(DataError, match=r"holds 1e\+03 GB of data, a source may take") as told:
            download(f"{server}/huge", tmp_path, silent)
        assert "\n" not in str(told.value)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == 0


def test_a_password_or_token_of_an_address_is_never_said_nor_recorded(server: str, tmp_path: Path) -> None:
    host = server.removeprefix("http://")
    with_password, with_token = f"http://user:{SECRET}@{host}/x", f"{server}/none.zip?token={SECRET}#{SECRET}"
    assert shown_address(with_password) == f"{server}/x" and shown_address(with_token) == f"{server}/none.zip"
    assert has_password(with_password) and not has_password(with_token) and not has_password("mail@example.org")
    assert SECRET not in without_secrets(f"GET {with_password} failed: see {with_token}.")
    refusal(with_password, tmp_path)
    refusal(f"http://127.0.0.1:1/x?token={SECRET}", tmp_path)
    files = (SourceFile("a.csv"),)
    for source in (
        Source("url", with_password, files),
        Source("url", "", (SourceFile("a.csv", url=with_password),)),
        Source("wheel", f"package @ http://user:{SECRET}@{host}/package.whl", files),
        Source("url", with_token, (*files, SourceFile("b.csv"))),
        Source("url", with_token, files, sha256="0" * 64),
        Source("url", with_token, (SourceFile("a.csv", sha256="0" * 64),)),
    ):
        with pytest.raises(DataError) as told:
            collect(source, tmp_path / "raw", tmp_path, silent)
        assert SECRET not in str(told.value) and "\n" not in str(told.value), told.value
    assert not [file for file in tmp_path.rglob("*") if SECRET in file.name or SECRET.encode() in file.read_bytes()]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            'kind = "folder"\nlocation = "../../data"',
            f'kind = "url"\nlocation = "http://user:{SECRET}@127.0.0.1/all.zip"',
        ),
        (
            'kind = "folder"\nlocation = "../../data"',
            f'kind = "wheel"\nlocation = "a @ http://u:{SECRET}@127.0.0.1/a.whl"',
        ),
        (
            'location = "../../data"',
            f'location = "../../data"\nfiles = [{{ name = "ratings.csv", url = "http://u:{SECRET}@h/x" }}]',
        ),
        ('kind = "folder"', f'kind = "url"\nx = http://user:{SECRET}@127.0.0.1/all.zip'),
    ],
)
def test_a_password_in_a_datasets_file_is_never_said_nor_recorded_though_its_files_are_there(
    old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dataset(tmp_path, {})
    lake = path.parent.parent
    fetch_raw_files(load_dataset(path), lake)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setenv("RALLREC_LAKE", str(lake))
    monkeypatch.setenv("DAGSTER_HOME", "")
    for command in (["check", str(path)], ["run", "shop"], ["status", "shop"], ["datasets"], ["forget", "shop", "u1"]):
        told = CliRunner().invoke(app, command)
        assert SECRET not in told.output and SECRET not in str(told.exception), command
        assert command == ["datasets"] or told.exit_code == 1, command
    others = [file for file in lake.rglob("*") if file.is_file() and file != path]
    assert others and not [file for file in others if SECRET.encode() in file.read_bytes()]


def test_the_ui_listens_on_this_machine_only() -> None:
    commands = [
        line for line in (PACKAGE.parent / "Makefile").read_text(encoding="utf-8").splitlines() if "dagster dev" in line
    ]
    assert commands and all("--host 127.0.0.1" in line for line in commands)


def test_nothing_in_the_package_unpickles_evaluates_or_trusts_remote_code() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if RUNS_CODE.search(line.partition("#")[0])
    ]
    assert not found, found


def test_every_module_that_loads_by_a_models_own_class_turns_remote_code_off() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if re.search(r"\bAuto\w+\.from_pretrained\(", text):
            assert re.search(r"trust_remote_code\"?[=:] ?False", text), path


def test_code_that_a_model_brings_along_is_not_run_and_pickled_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from rallrec_pipeline.errors import ModelError
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
    from rallrec_pipeline.language_models.models import fetch_model
    from rallrec_pipeline.settings import ModelSettings
    from rallrec_pipeline_tests.language_models.small_llama import NARROW, edit_config, write_llama

    folder, mark = tmp_path / "model", tmp_path / "ran"
    write_llama(folder, NARROW)
    (folder / "modeling_evil.py").write_text(f"open({str(mark)!r}, 'w').close()\n", encoding="utf-8")
    names = {"AutoConfig": "modeling_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
    edit_config(folder, auto_map=names)
    settings = ModelSettings(source=folder.as_posix(), name="evil", dtype="float32")
    fetched = fetch_model(settings, tmp_path / "lake")
    TransformersEngine.load(fetched, settings)
    assert not mark.exists() and not list(fetched.glob("*.py"))
    weights = folder / "model.safetensors"
    import torch

    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ModelError, match="is not a model folder"):
        fetch_model(settings, tmp_path / "lake")
    with pytest.raises(ModelError, match="cannot load the model"):
        TransformersEngine.load(folder, settings)
