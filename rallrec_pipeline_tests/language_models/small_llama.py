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
    "max_position_embeddings": 8192,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rope_scaling": None,
    "torch_dtype": "float32",
}
"""As narrow as can be, for what runs a model over and over."""
LIVELY = LLAMA_3_1 | {"initializer_range": 0.2}
"""Weights large enough that what it answers depends on what it reads."""
FOR_VLLM = {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 1}  # on a CPU it wants wide heads

BEGIN, END = "<begin>", "<end>"
TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"


def write_llama(
    folder: Path, config: dict[str, Any] = LLAMA_3_1, template: str | None = TEMPLATE, begins: bool = True
) -> Path:
    """Write a tiny model folder: config.json, random weights as safetensors, a tokenizer of bytes. Returns it.

    `config` holds the entries of config.json, so also the sizes and the type of the weights; the numbers of tokens are
    added. `template` and `begins` are those of `byte_tokenizer`. Equal arguments give equal files.
    """
    import torch

    tokenizer = byte_tokenizer(template, begins)
    tokenizer.save_pretrained(folder)
    values = config | special_tokens(tokenizer)
    random_llama(values).to(getattr(torch, config["torch_dtype"])).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")  # as published, not as saved again
    return folder


def random_llama(config: dict[str, Any], seed: int = 0) -> Any:
    """A float32 model of `config` with random weights; where it names no tokens, for `byte_tokenizer`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**special_tokens(byte_tokenizer()) | config))


def special_tokens(tokenizer: Any) -> dict[str, Any]:
    """Entries of config.json that say which tokens there are."""
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def byte_tokenizer(template: str | None = TEMPLATE, begins: bool = True) -> Any:
    """Bytes as tokens, and END; as Llama's, it puts BOS before a text and its chat template writes BOS itself.

    Without a `template` it has none for chats; one that does not begin (`begins`) has no BOS.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = {"bos_token": BEGIN, "eos_token": END} if begins else {"eos_token": END}
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in tokens.values()])
    if begins:
        begin = (BEGIN, tokenizer.token_to_id(BEGIN))
        tokenizer.post_processor = processors.TemplateProcessing(f"{BEGIN} $A", None, [begin])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)
    wrapped.chat_template = template
    return wrapped


def edit_config(folder: Path, **changes: Any) -> None:
    """Change or, with None, remove entries of config.json."""
    values = read_json(folder / "config.json") | changes
    write_json(folder / "config.json", {name: value for name, value in values.items() if value is not None})
