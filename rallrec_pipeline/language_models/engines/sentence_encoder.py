"""A sentence encoder (BERT and its kin): texts to vectors, nothing else."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModel

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.kernels.batching import padded, token_batches
from rallrec_pipeline.language_models.kernels.memory import settle_imports
from rallrec_pipeline.language_models.kernels.workers import PASSES, Workers
from rallrec_pipeline.language_models.protocols import Progress, Sampling, Usage, Written
from rallrec_pipeline.language_models.tokens import unreadable
from rallrec_pipeline.settings import ModelSettings

TOKENS_PER_BATCH = 4096
ONLY_ENCODES = "a sentence encoder can only be the encoder: give [writer] and [predictor] an LLM"


class SentenceEncoder:
    """Mean of the last hidden state over a text's tokens, at L2 norm 1, as the sentence-transformers models are used.

    A text that is longer than the model reads is cut at its end. `usage` counts what it has done, padding left out.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, longest: int, tokens_per_batch: int) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(longest)
        self.tokens_per_batch = tokens_per_batch
        self.device = next(model.parameters()).device
        self.usage = Usage()
        self.passes = Workers(self.device, PASSES)

    @classmethod
    def load(cls, folder: Path, settings: ModelSettings) -> SentenceEncoder:
        """Load safetensors weights from `folder`, always in float32: such models are small.

        Remote code stays off. Raises ModelError when the folder holds no usable model.
        """
        settle_imports()
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()  # it would warn of a pooling layer that is not used
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises plain Exception
            raise ModelError(
                f"{folder} has no tokenizer.json that can be read: give the model another source"
            ) from error
        try:
            model = AutoModel.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, add_pooling_layer=False
            )
        except (OSError, ValueError, TypeError) as error:
            raise unreadable(folder, error) from error
        model = model.requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")
        longest = int(model.config.max_position_embeddings)
        return cls(model, tokenizer, longest, settings.tokens_per_batch or TOKENS_PER_BATCH)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Vectors of `texts`, shape (n, hidden), float32, rows of norm 1."""
        encoded = self.tokenizer.encode_batch(list(texts))
        sequences = [text.ids for text in encoded]
        vectors = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        done = 0
        batches = list(token_batches([len(ids) for ids in sequences], self.tokens_per_batch)) if sequences else []
        pooled = self.passes.map(lambda rows: self._pooled([sequences[row] for row in rows]), batches)
        for rows, made in zip(batches, pooled, strict=True):
            vectors[rows] = made
            done += len(rows)
            if progress is not None:
                progress(done, len(texts))
        self.usage.rows += len(texts)
        self.usage.prompt_tokens += sum(map(len, sequences))
        return vectors

    def generate(self, prompts: Sequence[str], sampling: Sampling, progress: Progress | None = None) -> list[str]:
        """Raises ModelError: such a model writes nothing."""
        raise ModelError(ONLY_ENCODES)

    def write(
        self, prompts: Sequence[str], sampling: Sampling, thinks: bool = False, progress: Progress | None = None
    ) -> list[Written]:
        """Raises ModelError, as `generate`."""
        raise ModelError(ONLY_ENCODES)

    def score(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        chat: bool,
        progress: Progress | None = None,
        said: Sequence[str] | None = None,
    ) -> NDArray[np.float64]:
        """Raises ModelError: such a model answers nothing."""
        raise ModelError(ONLY_ENCODES)

    def switch(self, adapter: Path | None) -> bool:
        """It has no adapters."""
        return adapter is None

    def close(self) -> None:
        """Free the weights; may be called twice."""
        self.model = None
        gc.collect()

    def _pooled(self, sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        tokens = torch.from_numpy(padded(sequences, fill=0)).to(self.device)  # (b, t)
        lengths = torch.tensor([len(ids) for ids in sequences], device=self.device)
        mask = torch.arange(tokens.shape[1], device=self.device) < lengths[:, None]
        hidden = self.model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state  # (b, t, d)
        mean = (hidden * mask[..., None]).sum(1) / lengths[:, None]
        return np.asarray(torch.nn.functional.normalize(mean, dim=1).cpu().numpy(), np.float32)
