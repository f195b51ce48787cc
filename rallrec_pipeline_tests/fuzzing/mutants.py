"""Inputs that are nearly right: sound ones with a few changes."""

from __future__ import annotations

import random
import re

from rallrec_pipeline_tests.hostile import HOSTILE

LITERALS = (
    *(b"0", b"-1", b"9" * 30, b"1e400", b"-1e-400", b"nan", b"inf", b"true", b'""', b"''", b"[]", b"{}", b"[[]]"),
    *(b'"\\u0000"', b'"\\ud800"', b'"../x"', b'"*"', b"1979-05-27", b"07:32:00", b"null", b"{a = 1}", b'[1, "a"]'),
    *(
        b'"utf-16"',
        b'"rot13"',
        b'"idna"',
        b'"base64"',
        b'"("',
        b'"%Q"',
        b'"%z"',
        b"0x10",
        b"0.5",
        b'"parquet"',
        b'"excel"',
    ),
)
PIECES = (
    *(
        b"\n",
        b"\r",
        b"\t",
        b",",
        b'"',
        b"'",
        b"\\",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"[",
        b"]",
        b"{",
        b"}",
    ),
    *(b"=", b"#", b".", b":", b"::", b";", b"NaN", b"1e9", b"PK\x03\x04", b"\x1f\x8b", b"PAR1", "é\u202e".encode()),
    *(text.encode(errors="surrogatepass")[:60] for text in HOSTILE[::9]),
)
VALUE = re.compile(rb"(?<=[=:,\[ ])\s*(?:\"[^\"\n]*\"|'[^'\n]*'|[-\w.]+)")


def mutant(seed: int, sound: list[bytes]) -> bytes:
    """One of the sound inputs with up to six changes: bits, pieces put in, cut out, doubled, values replaced."""
    rng = random.Random(seed)
    data = rng.choice(sound)
    for _ in range(rng.randint(1, 6)):
        data = _changed(data, rng)
    return data


def _changed(data: bytes, rng: random.Random) -> bytes:
    at, length = rng.randint(0, len(data)), rng.choice((1, 1, 4, 40))
    how = rng.randrange(7)
    if how == 0 and data:
        at = min(at, len(data) - 1)
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if how == 1:
        return data[:at] + rng.choice(PIECES) + data[at:]
    if how == 2:
        return data[:at] + data[at + length :]
    if how == 3:
        return data[: at + length] + data[at : at + length] + data[at + length :]
    if how == 4:
        return data[:at]
    found = list(VALUE.finditer(data[:20_000]))
    if not found:
        return data[:at] + rng.choice(LITERALS) + data[at:]
    value = rng.choice(found)
    return data[: value.start()] + rng.choice(LITERALS) + data[value.end() :]
