"""What every engine promises (`language_models/protocols.py`), as classes that the tests of an engine inherit.

The inheriting class gives the fixtures `folder`, a model, `load` and `holds`. What its engine has besides stays in the
engine's own file. Everything is compared with `Plain`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.protocols import Engine, Sampling, Usage
from rallrec_pipeline.language_models.tokens import TokenizedModel, load_tokenizer
from rallrec_pipeline_tests.language_models.adapters import random_adapter

Load = Callable[[Path | None], Engine]
"""An engine with the model of `folder`, and with an adapter if one is given; whoever calls it closes the engine."""
Holds = Callable[[Engine], Callable[[], bool]]
"""Of an engine that has worked: tells whether the weights or processes that it has now are still there."""

TEXTS = ["Heat", "Toy Story, a movie (year: 1995; genres: Animation, Comedy).", "A thriller in a snowed-in hotel." * 4]
QUESTIONS = [
    "Describe the movie Heat in ten words.",
    "Describe the movie Toy Story (1995), an animation, in ten words.",
    "What is a movie?",
    "Describe the movie Fargo in ten words.",
]
RATINGS = [f"Ratings from 1 to 10:\n{text}:4\nAlien:10\nBig:" for text in TEXTS] + [
    "Ratings from 1 to 10:\nBig:1\nHeat:"
]
WITH_PROFILE = [
    "User profile: " + "likes long films about the sea; " * 25 + f"{title}:" for title in ("Ran", "Big", "Up")
]
FIVE, TEN = ([str(value) for value in range(1, most + 1)] for most in (5, 10))
YES_NO = ["Yes", "No"]
BEYOND_ANY_CONTEXT = "long " * 9000
GREEDY = Sampling(12, 1e-3, 1.0, seed=1)  # nearly


class Plain:
    """The reference: plain transformers in float32, one row at a time, nothing padded, shared, packed or merged."""

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        ends = model.generation_config.eos_token_id
        self.tokens = TokenizedModel(load_tokenizer(folder), model.config.max_position_embeddings, ends)
        self.model = (PeftModel.from_pretrained(model, str(adapter)) if adapter else model).eval()

    @torch.inference_mode()
    def new_tokens(self, prompt: str, most: int) -> list[int]:
        """The likeliest tokens behind a chat prompt, without the end token."""
        ids = torch.tensor([self.tokens.prompt_tokens(prompt, chat=True)])
        options = {"attention_mask": torch.ones_like(ids), "pad_token_id": self.tokens.fill}
        output = self.model.generate(ids, do_sample=False, max_new_tokens=most, **options)
        return [token for token in output[0, ids.shape[1] :].tolist() if token not in self.tokens.end_tokens]

    @torch.inference_mode()
    def encode(self, text: str) -> NDArray[np.float32]:
        """Mean of the last hidden state, shape (hidden,)."""
        output = self.model(torch.tensor([self.tokens.text_tokens(text)]), output_hidden_states=True)
        return np.asarray(output.hidden_states[-1][0].mean(0).numpy())

    @torch.inference_mode()
    def score(self, prompt: str, answers: Sequence[str], chat: bool, said: str | None = None) -> NDArray[np.float64]:
        """P(answer | prompt), shape (len(answers),): a pass of its own for every token of an answer."""
        trie, found = self.tokens.trie(answers), np.ones(len(answers))
        (asked,) = self.tokens.prompts_tokens([prompt], chat, None if said is None else [said])
        for node, choice in enumerate(trie.choices):
            ids = torch.tensor([[*asked, *choice.prefix]])
            shares = torch.softmax(self.model(ids).logits[0, -1, list(choice.children)].double(), -1)
            for answer, path in enumerate(trie.paths):
                for child in (child for at, child in path if at == node):
                    found[answer] *= float(shares[child])
        return found


class Contract:
    """What the contracts share: an engine for all tests of a class, which leave it as it is."""

    tolerance = 2e-4
    """How far a probability may be off."""

    @pytest.fixture(scope="class")
    @classmethod
    def plain(cls, folder: Path) -> Plain:
        """The reference on the same model."""
        return Plain(folder)

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, load: Load) -> Iterator[Engine]:
        """The engine without an adapter."""
        made = load(None)
        yield made
        made.close()

    def scores(self, plain: Plain, prompts: Sequence[str], answers: Sequence[str], chat: bool) -> NDArray[np.float64]:
        """What the reference answers; it differs from prompt to prompt, so that none can stand for another."""
        found = np.stack([plain.score(prompt, answers, chat) for prompt in prompts])
        assert np.ptp(found, axis=0).max() > 20 * self.tolerance
        return found


class GeneratorContract(Contract):
    """`TextGenerator`."""

    def test_nearly_greedy_texts_are_those_of_plain_transformers_in_order(self, engine: Engine, plain: Plain) -> None:
        expected = [plain.new_tokens(prompt, GREEDY.max_new_tokens) for prompt in QUESTIONS]
        assert len(set(map(tuple, expected))) == len(QUESTIONS)
        engine.usage = used = Usage()
        assert engine.generate(QUESTIONS, GREEDY) == plain.tokens.decode(expected)
        assert used.rows == len(QUESTIONS) and used.new_tokens == sum(map(len, expected))
        asked = [plain.tokens.prompt_tokens(prompt, chat=True) for prompt in QUESTIONS]
        assert 0 < used.prompt_tokens <= sum(map(len, asked))

    def test_sampling_is_reproducible_and_depends_on_the_seed(self, engine: Engine) -> None:
        first, again, other = (engine.generate(QUESTIONS, Sampling(16, 0.8, 0.9, seed)) for seed in (3, 3, 4))
        assert first == again != other

    def test_texts_of_one_prompt_share_its_reading_and_differ(self, engine: Engine, plain: Plain) -> None:
        asked = [QUESTIONS[0]] * 3 + [QUESTIONS[2]]
        engine.usage = used = Usage()
        written = engine.write(asked, Sampling(12, 1.5, 1.0, seed=3))
        assert len({text.text for text in written[:3]}) == 3
        assert used.rows == 4 and used.new_tokens == sum(text.tokens for text in written)
        assert used.prompt_tokens <= sum(len(plain.tokens.prompt_tokens(q, True)) for q in QUESTIONS[0:3:2])

    def test_a_text_that_was_cut_off_says_so(self, engine: Engine, plain: Plain) -> None:
        (cut,) = engine.write(QUESTIONS[:1], Sampling(2, 1e-3, 1.0, seed=1))
        assert cut.tokens == 2 and not cut.ended

    def test_nothing_to_write_is_nothing_written(self, engine: Engine) -> None:
        engine.usage = used = Usage()
        assert engine.generate([], GREEDY) == [] and used == Usage()

    def test_a_prompt_without_room_for_the_text_is_refused_before_any_work(self, engine: Engine, plain: Plain) -> None:
        engine.usage = used = Usage()
        with pytest.raises(ModelError, match=f"context of {plain.tokens.context_tokens}"):
            engine.generate([*QUESTIONS, BEYOND_ANY_CONTEXT], GREEDY)
        with pytest.raises(ModelError, match=f"with room for {plain.tokens.context_tokens} more"):
            engine.generate(QUESTIONS, Sampling(plain.tokens.context_tokens, 0.8, 0.9, seed=1))
        assert used == Usage()


class ScorerContract(Contract):
    """`AnswerScorer`."""

    tells_progress = True

    @pytest.mark.parametrize(("prompts", "answers", "chat"), [(RATINGS, TEN, False), (QUESTIONS, YES_NO, True)])
    def test_answers_are_those_of_plain_transformers_in_order(
        self, engine: Engine, plain: Plain, prompts: list[str], answers: list[str], chat: bool
    ) -> None:
        """`10` begins as `1` does: two nodes of the trie, and unlikely tokens too."""
        found = engine.score(prompts, answers, chat)
        assert found.dtype == np.float64 and len(plain.tokens.trie(TEN).choices) > 1
        np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-5)
        np.testing.assert_allclose(found, self.scores(plain, prompts, answers, chat), atol=self.tolerance)

    def test_what_the_assistant_has_said_moves_its_answer(self, engine: Engine, plain: Plain) -> None:
        """Equal prompts with different words behind them share their prefill."""
        said = ["I know this film very well, and it is", "No. It is not at all what they like.\n\nAnswer:\n", ""]
        asked = [QUESTIONS[1]] * len(said)
        expected = np.stack([plain.score(asked[0], YES_NO, True, words) for words in said])
        engine.usage = used = Usage()
        found = engine.score(asked, YES_NO, chat=True, said=said)
        np.testing.assert_allclose(found, expected, atol=self.tolerance)
        assert np.ptp(found[:, 0]) > 20 * self.tolerance and used.rows == len(said)

    def test_answers_do_not_depend_on_the_batch(self, engine: Engine) -> None:
        together = engine.score(RATINGS, FIVE, chat=False)
        alone = np.concatenate([engine.score([prompt], FIVE, chat=False) for prompt in RATINGS])
        np.testing.assert_allclose(together, alone, atol=self.tolerance)
        np.testing.assert_allclose(engine.score(RATINGS[::-1], FIVE, chat=False), alone[::-1], atol=self.tolerance)

    def test_what_prompts_begin_with_is_read_once(self, engine: Engine, plain: Plain) -> None:
        """An engine may also know it from the call before."""
        expected = self.scores(plain, WITH_PROFILE, FIVE, chat=False)
        asked = [len(plain.tokens.prompt_tokens(prompt, chat=False)) for prompt in WITH_PROFILE]
        engine.score(WITH_PROFILE[:1], FIVE, chat=False)
        engine.usage = used = Usage()
        found = engine.score(WITH_PROFILE, FIVE, chat=False)
        np.testing.assert_allclose(found, expected, atol=self.tolerance)
        assert used.rows == len(WITH_PROFILE) and used.new_tokens == 0
        assert 0 < used.prompt_tokens < 0.6 * sum(asked)

    def test_progress_ends_with_all_rows(self, engine: Engine) -> None:
        seen: list[tuple[int, int]] = []
        engine.score(RATINGS, FIVE, False, lambda *state: seen.append(state))
        assert seen == sorted(seen) and set(seen[-1:]) == (
            {(len(RATINGS), len(RATINGS))} if self.tells_progress else set()
        )

    def test_nothing_asked_is_nothing_answered(self, engine: Engine) -> None:
        engine.usage = used = Usage()
        assert engine.score([], YES_NO, chat=True).shape == (0, 2) and used == Usage()

    def test_a_prompt_beyond_the_context_is_refused_before_any_work(self, engine: Engine, plain: Plain) -> None:
        engine.usage = used = Usage()
        with pytest.raises(ModelError, match=f"context of {plain.tokens.context_tokens}"):
            engine.score([*RATINGS, BEYOND_ANY_CONTEXT], YES_NO, chat=False)
        assert used == Usage()


class AdapterContract(Contract):
    """`Engine.switch`, and loading with an adapter."""

    @pytest.fixture(scope="class")
    @classmethod
    def adapters(cls, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
        """Two adapters of one rank."""
        return two_adapters(folder, tmp_path_factory.mktemp("adapters"))

    def test_each_adapter_answers_as_itself(
        self, engine: Engine, plain: Plain, load: Load, folder: Path, adapters: list[Path]
    ) -> None:
        tuned, other = adapters
        found: dict[Path | None, NDArray[np.float64]] = {None: engine.score(RATINGS, TEN, chat=False)}
        for adapter in (tuned, other, None, tuned):
            if engine.switch(adapter):
                answers = engine.score(RATINGS, TEN, chat=False)
            elif adapter not in found:
                answers = loaded_anew(load, adapter)
            else:
                continue  # the engine cannot switch, and this one was loaded before
            np.testing.assert_allclose(answers, found.setdefault(adapter, answers), atol=1e-5)
        engine.switch(None)
        for adapter, answers in found.items():
            expected = self.scores(Plain(folder, adapter) if adapter else plain, RATINGS, TEN, chat=False)
            np.testing.assert_allclose(answers, expected, atol=self.tolerance)
        assert np.abs(found[tuned] - found[None]).max() > 0.01 and np.abs(found[tuned] - found[other]).max() > 0.01


def two_adapters(folder: Path, root: Path) -> list[Path]:
    """Folders of two random adapters of one rank."""
    folders = [root / "tuned", root / "other"]
    for seed, target in enumerate(folders, 2):
        random_adapter(folder, target, seed)
    return folders


def loaded_anew(load: Load, adapter: Path | None) -> NDArray[np.float64]:
    """Answers of an engine of its own."""
    engine = load(adapter)
    try:
        return engine.score(RATINGS, TEN, chat=False)
    finally:
        engine.close()


class EncoderContract(Contract):
    """`TextEncoder`."""

    cosine = 0.99999

    def test_vectors_are_those_of_plain_transformers_in_order(self, engine: Engine, plain: Plain) -> None:
        """One text is empty."""
        texts = [*TEXTS, ""]
        expected = np.stack([plain.encode(text) for text in texts])
        engine.usage = used = Usage()
        found = engine.encode(texts)
        assert found.dtype == np.float32 and found.flags.writeable
        norms, wanted = np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1)
        np.testing.assert_allclose(norms, wanted, rtol=1e-3)  # not normalised
        cosines = (found / norms[:, None]) @ (expected / wanted[:, None]).T
        assert cosines.diagonal().min() > self.cosine > (cosines - np.eye(len(texts))).max()
        assert used == Usage(len(texts), sum(len(plain.tokens.text_tokens(text)) for text in texts))

    def test_no_text_is_no_vector(self, engine: Engine, plain: Plain) -> None:
        engine.usage = used = Usage()
        assert engine.encode([]).shape == (0, plain.model.config.hidden_size) and used == Usage()


class ClosingContract(Contract):
    """`Engine.close`."""

    @pytest.fixture
    def spent(self, load: Load) -> Iterator[Engine]:
        """An engine that is closed by the test."""
        made = load(None)
        yield made
        made.close()

    def test_closing_frees_what_it_holds_also_after_a_failure_and_twice(self, spent: Engine, holds: Holds) -> None:
        spent.encode(TEXTS)
        with pytest.raises(ModelError):
            spent.score([BEYOND_ANY_CONTEXT], FIVE, chat=False)
        still_there = holds(spent)
        assert still_there()
        spent.close()
        wait_until(lambda: not still_there())
        spent.close()


class EngineContract(GeneratorContract, ScorerContract, AdapterContract, EncoderContract, ClosingContract):
    """`Engine`."""


def wait_until(holds: Callable[[], bool], limit_s: float = 30) -> None:
    """Return as soon as `holds`, fail after `limit_s` seconds."""
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)
