"""Let atheris find inputs for one target, guided by coverage: `python -m rallrec_pipeline_tests.fuzzing csv`.

Options of libFuzzer follow, as `-max_total_time=60`; what crashes is kept in the working directory.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # no part of the environment: pip install atheris

with atheris.instrument_imports(include=["rallrec_pipeline"]):
    from rallrec_pipeline_tests.fuzzing.readers import survives
    from rallrec_pipeline_tests.fuzzing.targets import TARGETS


def main() -> None:
    """Fuzz the target that is named first."""
    name = sys.argv.pop(1)
    target, folder = TARGETS[name], Path.cwd() / "corpus" / name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    for number, sound in enumerate(target.seeds()):
        (folder / f"seed-{number}").write_bytes(sound)

    def one(data: bytes) -> None:
        if (why := survives(target.read, data)) is not None:
            raise AssertionError(why)

    atheris.Setup([*sys.argv, str(folder)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
