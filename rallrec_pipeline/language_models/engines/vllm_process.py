"""Starting and stopping the processes of vLLM."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rallrec_pipeline.language_models.dtypes import resolve_dtype
from rallrec_pipeline.language_models.sizing.hardware import free_memory
from rallrec_pipeline.settings import ModelSettings

if TYPE_CHECKING:
    import psutil

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM takes for `max_lora_rank`
CPU_CACHE_SHARE = 0.25  # of the free memory, for keys and values
CPU_CACHE_BYTES = 4 << 30  # at most
STOP_SECONDS = 20.0

# Waits for the end of its parent, which closes its standard input, and then ends what the parent has left behind.
_GUARD = """
import os, sys
sys.stdin.read()
for pid in map(int, sys.argv[1:]):
    try:
        os.kill(pid, 9)
    except OSError:
        pass
"""


@dataclass(frozen=True)
class RunningVllm:
    """A `vllm.LLM` with its processes, and a guard that ends them if this process is killed."""

    llm: Any
    processes: list[psutil.Process]
    guard: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End the engine process and its workers; returns when they are gone."""
        try:
            self.llm.llm_engine.engine_core.shutdown()
        finally:
            _end(self.processes)
            self.guard.kill()
            self.guard.communicate()


def start_vllm(folder: Path, settings: ModelSettings, options: dict[str, Any]) -> RunningVllm:
    """Load the model of `folder`; `options` say whether it generates or pools."""
    _prepare_environment(settings)
    from vllm import LLM
    from vllm.platforms import current_platform

    common: dict[str, Any] = {
        "dtype": resolve_dtype(settings.dtype),
        "tensor_parallel_size": settings.tensor_parallel,
        "trust_remote_code": False,
        "use_tqdm_on_load": False,
    }
    with _same_environment(), _started_processes() as started:
        if current_platform.is_cpu():
            # Functions that it compiles even in eager mode would need a C++ compiler on the machine.
            os.environ["TORCHDYNAMO_DISABLE"] = "1"
            # A prompt that is read in parts sets the random numbers of its seed back, which those of a CPU cannot do:
            # many seeded prompts at once would end the engine.
            common |= {
                "enforce_eager": True,
                "kv_cache_memory_bytes": _cpu_cache_bytes(),
                "enable_chunked_prefill": False,
            }
        else:
            common |= {"gpu_memory_utilization": settings.gpu_memory}
        llm = LLM(str(folder), **(common | options))
        processes = started()
        return RunningVllm(llm, processes, _guard(processes))


@contextmanager
def _started_processes() -> Iterator[Callable[[], list[psutil.Process]]]:
    """Finds the processes that are started in the block, and theirs.

    After a failure it ends them: a `vllm.LLM` that fails half-way has some already, and nobody else could.
    """
    import psutil

    before = set(multiprocessing.active_children())

    def started() -> list[psutil.Process]:
        found = []
        for child in set(multiprocessing.active_children()) - before:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(child.pid)
                found += [*process.children(recursive=True), process]
        return found

    try:
        yield started
    except BaseException:
        for process in started():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        raise


def _end(processes: list[psutil.Process]) -> None:
    """Wait for processes that were told to stop; after `STOP_SECONDS` kill them. vLLM waits for none that it kills."""
    import psutil

    for process in psutil.wait_procs(processes, timeout=STOP_SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=STOP_SECONDS)
    multiprocessing.active_children()  # which forgets those that have ended


def _guard(processes: list[psutil.Process]) -> subprocess.Popen[bytes]:
    """vLLM's engine process does not notice that its parent was killed; it would keep its memory for ever."""
    pids = [str(process.pid) for process in processes]
    command = [sys.executable, "-I", "-S", "-c", _GUARD, *pids]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _prepare_environment(settings: ModelSettings) -> None:
    """What vLLM reads from the environment; a user's own values stay."""
    defaults = {
        # A forked child hangs in OpenMP, and cannot use CUDA, when its parent has used them.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_LOGGING_LEVEL": "ERROR",  # its warnings are about what it was told to do
        "VLLM_NO_USAGE_STATS": "1",
    }
    if settings.tensor_parallel == 1 and hasattr(os, "sched_getaffinity"):
        # By default vLLM leaves one core idle; of two cores that is half of the machine.
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        defaults |= {"VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@contextmanager
def _same_environment() -> Iterator[None]:
    """On a CPU vLLM sets LD_PRELOAD and more for its workers, which must not reach later children of this process."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            if not name.startswith("VLLM_"):
                del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if not name.startswith("VLLM_")})


def _cpu_cache_bytes() -> int:
    return min(CPU_CACHE_BYTES, int(free_memory() * CPU_CACHE_SHARE))
