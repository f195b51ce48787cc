"""Memory: the arithmetic of the paper's model, and estimates against what a process with the real small LLM took."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rallrec_pipeline.language_models.sizing.architecture import KNOWN, LLAMA_8B
from rallrec_pipeline.language_models.sizing.footprint import (
    LEAST_TOKENS,
    MOST_TOKENS,
    PASS_BYTES,
    USES,
    Use,
    adapter_parameters,
    batch_that_fits,
    default_budget,
    footprint,
    key_value_bytes,
    served_footprint,
    type_bytes,
    weight_bytes,
)
from rallrec_pipeline.settings import ModelSettings, Settings, TuningSettings, load_settings

GB = 1e9
WITHIN = 1.4  # an estimate may be off by this factor
TOKENS = 512
SMALL = KNOWN[ModelSettings().source]

PROGRAM = """
import sys, resource, numpy, polars, torch
from pathlib import Path
from rallrec_pipeline.language_models.answers import answer_trie
from rallrec_pipeline.language_models.protocols import Sampling
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.settings import ModelSettings, TuningSettings
from rallrec_pipeline.tuning.examples import make_example
from rallrec_pipeline.tuning.lora import add_adapter
from rallrec_pipeline.tuning.train import tune

use, folder, tokens = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
engine = TransformersEngine.load(folder, ModelSettings(dtype="float32", tokens_per_batch=tokens))
text = "one two three four five six seven eight nine ten " * 6
if use == "encode":
    engine.encode([f"{text}{n}" for n in range(8)])
elif use == "generate":
    engine.generate([f"{n} {text}" for n in range(8)], Sampling(4, 0.8, 0.9, seed=1))
else:
    settings = TuningSettings(epochs=1, batch_size=8, tokens_per_batch=tokens)
    trie = engine.trie(["1", "2"])
    examples = [make_example(engine, trie, ["1", "2"], f"{n} {text}:", "1", [], False, 0.0) for n in range(8)]
    add_adapter(engine, settings, seed=1)
    tune(engine, examples, trie, lambda: 0.5, settings, seed=1)
status = Path("/proc/self/status")
if status.exists():  # ru_maxrss begins with what the parent had, which in a suite of tests is much
    print(int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def settings_of(**model: object) -> Settings:
    built = Settings(profile="demo", model=ModelSettings(dtype="float32", tokens_per_batch=TOKENS, **model))  # type: ignore[arg-type]
    sections = {"tuning": TuningSettings(tokens_per_batch=TOKENS)}
    return built.model_copy(
        update=sections | {"descriptions": built.descriptions.model_copy(update={"batch_size": 8, "max_new_tokens": 4})}
    )


@pytest.mark.parametrize("use", ["encode", "generate", "tune"])
def test_a_real_process_takes_about_what_is_estimated(use: Use, model_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, use, str(model_path), str(TOKENS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    took = int(done.stdout.split()[-1])
    estimated = footprint(use, SMALL, settings_of(), "cpu", prompt_tokens=70).total
    assert took / WITHIN < estimated < took * WITHIN, f"{took / GB:.2f} GB taken, {estimated / GB:.2f} GB estimated"


def test_the_arithmetic_of_the_papers_model(built_in_settings_only: None) -> None:
    paper = load_settings("paper")
    assert weight_bytes(LLAMA_8B, paper.model, eight_bit=False) == 2 * LLAMA_8B.parameters
    assert weight_bytes(LLAMA_8B, paper.model) / GB == pytest.approx(9.08, abs=0.01)
    assert key_value_bytes(LLAMA_8B, 2) == 131_072
    assert adapter_parameters(LLAMA_8B, paper) == 8 * 32 * (4096 + 4096 + 4096 + 1024)
    tuned = footprint("tune", LLAMA_8B, paper, "cuda", 1000)
    assert 40 * GB < tuned.total < 48 * GB, "the profile's own batches fit a card of 48 GB, and none of 40"
    assert tuned.tuning == pytest.approx(4096 * 32 * 2 * (18 * 4096 + 4 * 14_336), rel=0.01)
    assert max(footprint(use, LLAMA_8B, paper, "cuda", 1000).total for use in USES) < 80 * GB


@pytest.mark.parametrize("use", ["score", "tune"])
def test_batches_that_nobody_chose_follow_the_model_on_a_card(use: Use) -> None:
    unsaid = Settings(profile="demo", model=ModelSettings(dtype="bfloat16"))
    on_cpu = 2 * LEAST_TOKENS if use == "tune" else LEAST_TOKENS  # tuning's are as large as in float32, in bytes
    assert default_budget(use, SMALL, 2, "cpu") == default_budget(use, LLAMA_8B, 2, "cpu") == on_cpu
    assert default_budget(use, SMALL, 4, "cpu") == LEAST_TOKENS
    small, large = (default_budget(use, architecture, 2, "cuda") for architecture in (SMALL, LLAMA_8B))
    assert LEAST_TOKENS <= large < small <= MOST_TOKENS
    for kind, tokens in (("cpu", on_cpu), ("cuda", small)):
        chosen = {"model": unsaid.model, "tuning": unsaid.tuning}
        said = unsaid.model_copy(
            update={name: section.model_copy(update={"tokens_per_batch": tokens}) for name, section in chosen.items()}
        )
        assert footprint(use, SMALL, unsaid, kind) == footprint(use, SMALL, said, kind)
    grown = footprint(use, SMALL, unsaid, "cuda")
    assert grown.activations + grown.cache + grown.tuning < 1.1 * PASS_BYTES


def test_more_of_anything_takes_more_and_the_batch_that_fits_fits() -> None:
    base = settings_of()
    more = base.model_copy(update={"tuning": TuningSettings(tokens_per_batch=4 * TOKENS)})
    before, after = (footprint("tune", LLAMA_8B, s, "cuda") for s in (base, more))
    assert after.tuning > 3 * before.tuning and after.weights == before.weights
    assert footprint("tune", LLAMA_8B, settings_of(load_in_8bit=True), "cuda").weights < before.weights / 2
    width = type_bytes(base.model.dtype)
    layers, head = LLAMA_8B.linear_parameters * width, LLAMA_8B.vocabulary * LLAMA_8B.hidden * width
    plain = footprint("encode", LLAMA_8B, base, "cpu").weights
    assert footprint("tune", LLAMA_8B, base, "cpu").weights == plain + layers, "packed in both directions"
    assert footprint("generate", LLAMA_8B, base, "cpu").weights == plain + head
    assert footprint("tune", LLAMA_8B, base, "cuda").weights == footprint("generate", LLAMA_8B, base, "cuda").weights
    for free in (60e9, 70e9):
        most = batch_that_fits("tune", LLAMA_8B, base, "cuda", int(free))
        fitting = base.model_copy(
            update={
                "tuning": TuningSettings(tokens_per_batch=most),
                "model": base.model.model_copy(update={"tokens_per_batch": most}),
            }
        )
        assert most > 0 and footprint("tune", LLAMA_8B, fitting, "cuda").total == pytest.approx(free, rel=0.01)
    assert batch_that_fits("tune", LLAMA_8B, base, "cuda", 1 << 30) == 0
    one, two = (served_footprint(LLAMA_8B, settings_of(tensor_parallel=n), "cuda", 1000).weights for n in (1, 2))
    assert one == 2 * two
