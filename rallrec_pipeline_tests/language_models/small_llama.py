"""A random Llama with the configuration of Llama-3.1-8B-Instruct or DeepSeek-R1-Distill-Llama-8B, only narrower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rallrec_pipeline.lake.files import read_json, write_json

# As the hub has them: the rope scaling of Llama 3.1, in the form of transformers 4, and end tokens of their own.
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
FOR_VLLM = {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 1}  # on a CPU it wants wide heads
TEMPLATE = "<|user|>{{ messages[0]['content'] }}<|assistant|>"


def write_llama(folder: Path, config: dict[str, Any] = LLAMA_3_1, template: str | None = TEMPLATE) -> Path:
    """Random bfloat16 weights for `config` and a tokenizer whose tokens are bytes; returns the folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokens = _write_tokenizer(folder, template)
    values = config | {"vocab_size": tokens + 2, "bos_token_id": tokens, "eos_token_id": tokens + 1}
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")  # as published, not as saved again
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    """Change or, with None, remove entries of config.json."""
    values = read_json(folder / "config.json") | changes
    write_json(folder / "config.json", {name: value for name, value in values.items() if value is not None})


def _write_tokenizer(folder: Path, template: str | None) -> int:
    """Returns the number of tokens besides the two special ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<begin>", eos_token="<end>")
    wrapped.chat_template = template
    wrapped.save_pretrained(folder)
    return len(letters)
