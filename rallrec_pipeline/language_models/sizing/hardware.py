"""What this machine is and has: its name is read without loading torch, so that `rallrec status` stays quick."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rallrec_pipeline.language_models.dtypes import resolve_dtype

UNLIMITED = 1 << 60  # a cgroup without a limit states a number of this size


@dataclass(frozen=True)
class Hardware:
    """The devices that the LLM runs on; memory in bytes."""

    kind: str
    """`cuda` or `cpu`."""
    name: str
    devices: int
    free_bytes: int
    """What is free on one device: the fullest of those that are used."""
    total_bytes: int
    has_bfloat16: bool = True
    """Whether it computes in bfloat16 at least as fast as in float32."""


def machine_name() -> str:
    """How many GPUs there are and what they are called, or else the processor and how many threads of it are used."""
    if machine_kind() == "cuda":
        gpus, visible = list(_gpu_names()), os.environ.get("CUDA_VISIBLE_DEVICES")
        return f"{len(gpus)} x {gpus[0]}" + (f", CUDA_VISIBLE_DEVICES={visible}" if visible else "")
    return f"{processor_name()}, {threads()} threads"


def processor_name() -> str:
    """The processor as Linux calls it, with its family and model where it says them.

    A rented machine hides the number on the box: generations that differ by half in speed are all called "AMD EPYC".
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    name, family, model = (_cpuinfo(text, field) for field in ("model name", "cpu family", "model"))
    kind = f" (family {family}, model {model})" if family and model else ""
    return f"{name or platform.machine()}{kind}"


def machine_kind() -> Literal["cuda", "cpu"]:
    """`cuda` where the driver shows a GPU that this process may use."""
    return "cuda" if os.environ.get("CUDA_VISIBLE_DEVICES") != "" and any(_gpu_names()) else "cpu"


def threads() -> int:
    """Threads that torch will use on the processor."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdigit() and int(stated) > 0:
        return int(stated)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1  # Linux has it


def find_hardware(used: int = 1) -> Hardware:
    """What torch finds: all GPUs, of which the first `used` take part, or the processor with its free memory."""
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        free, total = min(torch.cuda.mem_get_info(device) for device in range(min(used, count)))
        return Hardware("cuda", torch.cuda.get_device_name(0), count, free, total, torch.cuda.is_bf16_supported(False))
    total = _total_memory()
    free = min(free_memory() + _resident(), total)  # what this process holds already is part of every estimate
    return Hardware("cpu", processor_name(), 1, free, total, resolve_dtype("auto") == "bfloat16")


def free_memory() -> int:
    """Bytes of main memory that this process can still take, within its container's limit."""
    free = _meminfo("MemAvailable") or _total_memory()
    return min([free, *(limit - used for limit, used in _container_limits())])


def _total_memory() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *(limit for limit, _ in _container_limits())])


def _container_limits() -> Iterator[tuple[int, int]]:
    """(limit, bytes taken) of the container, by either version of cgroups; memory that only caches files is free."""
    root = Path("/sys/fs/cgroup")
    for folder, limit, used, prefix in (
        (root, "memory.max", "memory.current", ""),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ):
        try:
            bound = (folder / limit).read_text(encoding="ascii").strip()
            taken = int((folder / used).read_text(encoding="ascii"))
            lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            figures = {name: int(value) for name, value in (line.split() for line in lines)}
        except (OSError, ValueError):
            continue
        cached = sum(figures.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
        if bound.isdigit() and int(bound) < UNLIMITED:
            yield int(bound), max(0, taken - cached)


def _meminfo(name: str) -> int | None:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def _resident() -> int:
    """Bytes that this process holds."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _cpuinfo(text: str, field: str) -> str | None:
    found = re.search(rf"^{field}[ \t]*:[ \t]*(\S.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else None


def _gpu_names() -> Iterator[str]:
    """Names of NVIDIA cards, as their driver tells them."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        found = re.search(r"^Model:\s*(.+)$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        yield found.group(1).strip() if found else "NVIDIA GPU"
