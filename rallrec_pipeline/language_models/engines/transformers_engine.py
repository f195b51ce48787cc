"""The three uses of an LLM on plain transformers: CPU or one GPU, nothing else to install."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from rallrec_pipeline.language_models.answers import AnswerTrie
from rallrec_pipeline.language_models.dtypes import resolve_dtype
from rallrec_pipeline.language_models.kernels import attention
from rallrec_pipeline.language_models.kernels.decoding import sample_batch
from rallrec_pipeline.language_models.kernels.forward import Batch, Decoder
from rallrec_pipeline.language_models.kernels.memory import keep_freed_memory, settle_imports
from rallrec_pipeline.language_models.kernels.packing import pack_head, pack_weights, unpack_weights
from rallrec_pipeline.language_models.kernels.sections import (
    Plan,
    distinct_rows,
    plan_apart,
    plan_shared,
    plan_singly,
    shared_prefix,
)
from rallrec_pipeline.language_models.kernels.workers import PASSES, WRITERS, Workers
from rallrec_pipeline.language_models.protocols import Progress, Sampling, Usage, Written
from rallrec_pipeline.language_models.sizing.architecture import architecture_of
from rallrec_pipeline.language_models.sizing.footprint import Use, cpu_budget, default_budget
from rallrec_pipeline.language_models.tokens import TokenizedModel, load_tokenizer, unreadable
from rallrec_pipeline.settings import ModelSettings

# Loggers of bitsandbytes, which peft loads. One warns at every product of every pass that activations are cast. The
# other warns that a kernel for 4-bit weights is not installed; nothing here uses such weights.
NOISY = ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops")


class TransformersEngine(TokenizedModel):
    """One causal LM with its tokenizer; optionally with a LoRA adapter laid over it.

    `usage` counts what it has done; padding is not counted.
    """

    def __init__(self, model: Any, tokenizer: Any, tokens_per_batch: int, deterministic: bool = False) -> None:
        ends = model.generation_config.eos_token_id
        super().__init__(tokenizer, int(model.config.max_position_embeddings), ends)
        self.model = model.eval()
        self.tokens_per_batch = tokens_per_batch
        self.deterministic = deterministic
        """Whether each prompt that is scored is read by itself."""
        self.device = next(model.parameters()).device
        self.usage = Usage()
        self.passes, self.writers = Workers(self.device, PASSES), Workers(self.device, WRITERS)
        self.writes_at_once = self.writers.count
        self._prepared = self._head_prepared = False
        self._lock = Lock()

    @classmethod
    def load(cls, folder: Path, settings: ModelSettings, adapter: Path | None = None) -> TransformersEngine:
        """Load safetensors weights from `folder`, with the adapter of `adapter` if given.

        Remote code stays off. Raises ModelError when the folder holds no usable model.
        """
        keep_freed_memory()
        settle_imports()
        transformers.utils.logging.disable_progress_bar()  # the stages report their own progress
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.ERROR)
        tokenizer = load_tokenizer(folder)
        try:
            model = AutoModelForCausalLM.from_pretrained(folder, **_load_options(settings))
            model.requires_grad_(False)
            if adapter is not None:
                model = _with_adapter(model, adapter, settings)
        except (OSError, ValueError) as error:
            raise unreadable(adapter or folder, error) from error
        tokens = settings.tokens_per_batch or default_tokens(model, "score")
        return cls(model, tokenizer, tokens, settings.deterministic)

    @property
    def backbone(self) -> Any:
        """The decoder without its output head, under any adapter wrapping."""
        model = self.model
        return model.get_base_model().model if hasattr(model, "get_base_model") else model.model

    def prepare(self, head: bool = False) -> None:
        """On a CPU put quicker layers in the place of frozen ones; with `head` the output head is replaced too.

        Every use calls this. Call `restore` before the model is copied or an adapter is laid over it.
        """
        if self.device.type != "cpu":
            return
        with self._lock:
            if not self._prepared:
                pack_weights(self.model)
            if head and not self._head_prepared:
                pack_head(self.model)
            self._prepared, self._head_prepared = True, self._head_prepared or head

    def restore(self) -> None:
        """Undo `prepare`."""
        if self._prepared or self._head_prepared:
            unpack_weights(self.model)
        self._prepared = self._head_prepared = False

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Mean of the last hidden state over each text's tokens, shape (n, hidden), float32."""
        sequences = [self.text_tokens(text) for text in texts]
        vectors = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        for batch in self._hidden_states(sequences, plan_apart(len(texts)), progress):
            hidden = batch.hidden
            lengths = torch.tensor([len(sequences[r]) for r in batch.rows], device=hidden.device)
            mask = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]  # (b, t)
            summed = (hidden.float() * mask[..., None]).sum(1)  # (b, t, d) -> (b, d)
            vectors[batch.rows] = (summed / lengths[:, None]).cpu().numpy()
        self.usage.rows += len(texts)
        return vectors

    def score(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        chat: bool,
        progress: Progress | None = None,
        said: Sequence[str] | None = None,
    ) -> NDArray[np.float64]:
        """P(answer | prompt) among `answers`: one prefill per prompt, only the answers' logits.

        Returns shape (n, len(answers)), float64, rows sum to one. Equal prompts share a prefill, whatever is `said`.
        """
        trie = self.trie(answers)
        log_choices: list[NDArray[np.float64]] = [np.empty(0)] * len(trie.choices)
        tokens = self.prompts_tokens(prompts, chat, said)
        self.check_context(tokens)
        chains = trie.chains
        plan = plan_singly(len(tokens)) if self.deterministic else plan_shared(tokens, self.tokens_per_batch)
        for number, chain in enumerate(chains):
            part = _share_of(progress, number, len(chains))
            for index, values in self._choice_log_probabilities(tokens, plan, chain, trie, part).items():
                log_choices[index] = values
        self.usage.rows += len(prompts)
        logs = [sum(log_choices[node][:, child] for node, child in path) for path in trie.paths]
        return np.asarray(np.exp(np.stack(logs, axis=1)))

    def generate(self, prompts: Sequence[str], sampling: Sampling, progress: Progress | None = None) -> list[str]:
        """One sampled text per chat prompt, decoded together in one batch."""
        return [written.text for written in self.write(prompts, sampling, progress=progress)]

    def write(
        self, prompts: Sequence[str], sampling: Sampling, thinks: bool = False, progress: Progress | None = None
    ) -> list[Written]:
        """One sampled text per chat prompt, decoded together in one batch; a prompt is read once for all its texts.

        `writes_at_once` calls may come from as many threads.
        """
        if not prompts:
            return []
        tokens = [self.prompt_tokens(prompt, chat=True, thinks=thinks) for prompt in prompts]
        self.check_context(tokens, sampling.max_new_tokens)
        self.prepare(head=True)
        new = self.writers.call(
            lambda: sample_batch(self.model, tokens, sampling, self.end_tokens, self.fill, progress)
        )
        read, _ = distinct_rows(tokens)
        shared = shared_prefix(read)
        with self._lock:
            self.usage.rows += len(prompts)
            self.usage.prompt_tokens += shared + sum(len(prompt) - shared for prompt in read)
            self.usage.new_tokens += sum(len(text) for text, _ in new)
        texts = self.decode([text for text, _ in new])
        return [Written(text, len(row), ended) for text, (row, ended) in zip(texts, new, strict=True)]

    def switch(self, adapter: Path | None) -> bool:
        """False: an adapter is merged, or laid over the layers, when the model is loaded."""
        return False

    def close(self) -> None:
        """Free the weights; may be called twice."""
        self.model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _choice_log_probabilities(
        self,
        tokens: Sequence[list[int]],
        plan: Plan,
        chain: tuple[int, ...],
        trie: AnswerTrie,
        progress: Progress | None,
    ) -> dict[int, NDArray[np.float64]]:
        """Log-probabilities of the children of each node that `chain` passes, by index of choice."""
        sequences = [[*prompt, *chain] for prompt in tokens]
        nodes = {i: c for i, c in enumerate(trie.choices) if chain[: len(c.prefix)] == c.prefix}
        found = {i: np.zeros((len(tokens), len(c.children))) for i, c in nodes.items()}
        head = self.model.get_output_embeddings().weight
        for batch in self._hidden_states(sequences, plan, progress):
            picks = torch.arange(len(batch.rows), device=head.device)
            ends = torch.tensor([len(tokens[r]) - 1 - batch.shared for r in batch.rows], device=head.device)
            for index, node in nodes.items():
                state = batch.hidden[picks, ends + len(node.prefix)]  # (b, t, d) -> (b, d)
                logits = state.float() @ head[list(node.children)].float().T  # (b, children)
                found[index][batch.rows] = torch.log_softmax(logits, -1).cpu().numpy()
        return found

    def _hidden_states(
        self, sequences: Sequence[Sequence[int]], plan: Plan, progress: Progress | None
    ) -> Iterator[Batch]:
        done = 0
        self.prepare()
        decoder = Decoder(self.backbone, self.tokens_per_batch, self.fill, self.usage, self.passes)
        for batch in decoder.hidden_states(sequences, plan):
            yield batch
            done += len(batch.rows)
            if progress is not None:
                progress(done, len(sequences))


def default_tokens(model: Any, use: Use) -> int:
    """Tokens of a pass of `model` on its device where the settings do not say."""
    width, eight_bit = model.dtype.itemsize, bool(getattr(model, "is_loaded_in_8bit", False))
    if model.device.type == "cpu":  # its budget needs no sizes; not every model states them
        return cpu_budget(use, width, eight_bit)
    return default_budget(use, architecture_of(model.config.to_dict()), width, model.device.type, eight_bit)


def _share_of(progress: Progress | None, number: int, passes: int) -> Progress | None:
    """Progress of pass `number` of several over the same list, as progress over the list."""
    return None if progress is None else lambda done, total: progress((number * total + done) // passes, total)


def _with_adapter(model: Any, adapter: Path, settings: ModelSettings) -> Any:
    """The model with the adapter merged into its weights, where they are float32.

    Beside shorter weights it stays apart, in their type where that has 16 bits. Merging would round them anew, and the
    changes of an adapter are about as small as that.
    """
    from peft import PeftModel

    wrapped = PeftModel.from_pretrained(model, str(adapter), autocast_adapter_dtype=settings.load_in_8bit)
    return wrapped.merge_and_unload() if model.dtype == torch.float32 and not settings.load_in_8bit else wrapped


def _load_options(settings: ModelSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "dtype": getattr(torch, resolve_dtype(settings.dtype)),
        "trust_remote_code": False,
        "use_safetensors": True,
        "attn_implementation": attention.register(),
    }
    if torch.cuda.is_available():
        options["device_map"] = {"": 0}
    if settings.load_in_8bit:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
    return options
