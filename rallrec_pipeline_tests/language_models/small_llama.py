"""The one maker of an LLM for tests: a random Llama, configured as the papers' models are, only narrower.

`write_llama` writes a model folder, `random_llama` makes the weights alone and `byte_tokenizer` the tokenizer alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rallrec_pipeline.lake.files import read_json, write_json

# Llama-3.1-8B-Instruct and DeepSeek-R1-Distill-Llama-8B as the hub has them: the rope scaling of Llama 3.1, in the form
# of transformers 4, and end tokens of their own.
LLAMA_3_1: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}
DEEPSEEK_R1_DISTILL = LLAMA_3_1 | {"pretraining_tp": 1, "attention_dropout": 0.0}
NARROW = LLAMA_3_1 | {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
LIVELY = LLAMA_3_1 | {"initializer_range": 0.2}
"""Weights large enough that what it answers depends on what it reads."""
FOR_VLLM = {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 1}  # on a CPU it wants wide heads

BEGIN, END = "<begin>", "<end>"
BYTES = 256
"""Tokens besides BEGIN and END, which follow them in this order."""
VOCABULARY = BYTES + 2
TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"


def write_llama(folder: Path, config: dict[str, Any] = LLAMA_3_1, template: str | None = TEMPLATE) -> Path:
    """Write a tiny model folder: config.json, random bfloat16 weights as safetensors, a tokenizer of bytes.

    `config` holds the entries of config.json, so also the sizes; the numbers of tokens are added. `template` is the
    chat template. Equal arguments give equal files. Returns the folder.
    """
    import torch

    byte_tokenizer(template).save_pretrained(folder)
    random_llama(config, torch.bfloat16).save_pretrained(folder)
    published = json.dumps(_with_tokens(config))
    (folder / "config.json").write_text(published, encoding="utf-8")  # as published, not as saved again
    return folder


def random_llama(config: dict[str, Any], dtype: Any = None, seed: int = 0) -> Any:
    """A model of `config` with random weights, float32 where no `dtype` is given."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**_with_tokens(config))).to(dtype or torch.float32)


def byte_tokenizer(template: str | None = TEMPLATE) -> Any:
    """Bytes as tokens; as Llama's, it puts BOS before a text and its chat template writes BOS itself."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (BEGIN, END)])
    begin = (BEGIN, tokenizer.token_to_id(BEGIN))
    tokenizer.post_processor = processors.TemplateProcessing(f"{BEGIN} $A", None, [begin])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END)
    wrapped.chat_template = template
    return wrapped


def edit_config(folder: Path, **changes: Any) -> None:
    """Change or, with None, remove entries of config.json."""
    values = read_json(folder / "config.json") | changes
    write_json(folder / "config.json", {name: value for name, value in values.items() if value is not None})


def _with_tokens(config: dict[str, Any]) -> dict[str, Any]:
    return {"vocab_size": VOCABULARY, "bos_token_id": BYTES, "eos_token_id": BYTES + 1} | config
