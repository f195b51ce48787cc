"""Where tuning stands, in one safetensors file: tensors as such, everything else as JSON in its header.

One file, because a rename is atomic for one only. It holds nothing that runs code when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.lake.files import atomic_path

FORMAT = "1"

Tensors = Mapping[str, torch.Tensor]


def write_checkpoint(path: Path, place: Mapping[str, Any], tensors: Tensors) -> None:
    """Store `tensors` and the JSON-able `place`, atomically. Raises DataError when the disk is full."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(place)
    header = {"format": FORMAT, "place": text, "sha256": _digest(text, plain)}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata=header)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What `write_checkpoint` stored: (place, tensors on the CPU). Raises ModelError when it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        if header.get("format") != FORMAT:
            raise ModelError(f"{path} is of another version")
        if header["sha256"] != _digest(header["place"], tensors):
            raise ModelError(f"{path} is damaged: its checksum is another one")
        return json.loads(header["place"]), tensors
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error


def flat_optimizer(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, torch.Tensor]:
    """The state of each parameter, under `optimizer.<parameter>.<quantity>`; `names` in the optimizer's order."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{names[index]}.{quantity}": tensor
        for index, quantities in state.items()
        for quantity, tensor in quantities.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: Tensors) -> None:
    """Put the state of `flat_optimizer` back. Raises KeyError when a parameter's is missing."""
    quantities = {name.rsplit(".", 1)[1] for name in tensors if name.startswith("optimizer.")}
    state = {
        index: {quantity: tensors[f"optimizer.{name}.{quantity}"] for quantity in quantities}
        for index, name in enumerate(names)
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of torch's random numbers, on the CPU and on `device`."""
    state = {"random.cpu": torch.get_rng_state()}
    return state | ({"random.cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_random_state(device: torch.device, tensors: Tensors) -> None:
    """Put the state of `random_state` back, as far as it is of this kind of device."""
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)


def _digest(text: str, tensors: Tensors) -> str:
    """SHA-256 of text, names, types, shapes and values."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
