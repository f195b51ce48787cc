"""Names of profiles and variants, and their files."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from rallrec_pipeline.errors import ConfigError

_BUILT_IN = Path(__file__).parent.parent / "profiles"
PROFILES: tuple[str, ...] = tuple(sorted(path.stem for path in _BUILT_IN.glob("*.toml")))
"""Names of the built-in profiles."""
DEFAULT_PROFILE = "demo"
VARIANT_NAME = re.compile(r"(?!study-)[A-Za-z0-9_-]{1,64}")
OF_STUDIES = "study-"
"""Names of variants that begin so are those of studies."""


def known_variants(lake: Path) -> list[str]:
    """Names of the built-in profiles and of the variants in `lake`, sorted."""
    return sorted({*PROFILES, *own_variants(lake)})


def variant_file(name: str, lake: Path, where: str) -> Path:
    """The file of a profile or variant; a complaint starts with `where` it was named."""
    own = own_variants(lake)
    if name in own and name in PROFILES:
        raise ConfigError(f"{where}{name!r} is a built-in profile and the file {own[name]} too: rename the file")
    if name in PROFILES:
        return _BUILT_IN / f"{name}.toml"
    if name in own:
        return own[name]
    if not VARIANT_NAME.fullmatch(name):
        raise ConfigError(
            f"{where}the name of a variant is up to 64 letters, digits, - and _ and does not begin with `study-`: "
            f"{name[:80]!r}"
        )
    known = known_variants(lake)
    close = get_close_matches(name, known)
    meant = f", did you mean {' or '.join(close)}?" if close else ":"
    raise ConfigError(
        f"{where}unknown profile or variant {name!r}{meant} known are {', '.join(known)}; "
        f"your own are files {lake / 'variants' / '<name>.toml'}"
    )


def own_variants(lake: Path) -> dict[str, Path]:
    """The user's variants by name; a file with another sort of name is none."""
    files = sorted((lake / "variants").glob("*.toml"))
    return {path.stem: path for path in files if VARIANT_NAME.fullmatch(path.stem)}
