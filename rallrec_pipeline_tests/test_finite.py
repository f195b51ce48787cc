"""What JSON cannot hold becomes null, wherever it stands."""

from __future__ import annotations

import json
import math

from rallrec_pipeline.finite import finite


def test_no_nan_or_infinity_is_left_at_any_depth() -> None:
    value = {1: (math.nan, 0.5), "deep": [{"x": math.inf, "y": -math.inf}], "text": "nan", "count": 3, "yes": True}
    plain = finite(value)
    assert plain == {"1": [None, 0.5], "deep": [{"x": None, "y": None}], "text": "nan", "count": 3, "yes": True}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
