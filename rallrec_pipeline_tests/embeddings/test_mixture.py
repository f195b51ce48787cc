import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.mixture import mix, unit_rows
from rallrec_pipeline.errors import ConfigError

VALUES = st.floats(-1e3, 1e3, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x)


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    norms = float(np.linalg.norm(a.astype(float)) * np.linalg.norm(b.astype(float)))
    return float(a.astype(float) @ b.astype(float)) / norms if norms else 0.0


@given(arrays(np.float32, (4, 3), elements=VALUES), arrays(np.float32, (4, 5), elements=VALUES), st.data())
def test_dot_product_is_the_weighted_sum_of_cosines(
    text: NDArray[np.float32], collaborative: NDArray[np.float32], data: st.DataObject
) -> None:
    weights = data.draw(st.tuples(st.floats(0.1, 3), st.floats(0.1, 3)))
    mixed = mix({"text": text, "collaborative": collaborative}, {"text": weights[0], "collaborative": weights[1]})
    assert mixed.shape == (4, 8)
    assert np.isfinite(mixed).all()
    for i in range(4):
        for j in range(4):
            expected = weights[0] * cosine(text[i], text[j]) + weights[1] * cosine(collaborative[i], collaborative[j])
            assert float(mixed[i] @ mixed[j]) == pytest.approx(expected, abs=1e-4)


def test_rows_have_their_own_unit_norm() -> None:
    units = unit_rows(np.array([[3, 4], [300, 400], [0, 0], [1e-30, 0]], np.float32))
    assert np.allclose(np.linalg.norm(units, axis=1), [1, 1, 0, 1])


def test_weight_zero_and_missing_weight_drop_the_part() -> None:
    text, aligned = np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)
    assert mix({"text": text, "aligned": aligned}, {"text": 0.0, "aligned": 1.0}).shape == (2, 4)
    assert mix({"text": text, "aligned": aligned}, {"text": 1.0}).shape == (2, 3)


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_no_usable_weight_is_a_config_error(weight: float) -> None:
    with pytest.raises(ConfigError, match="mixture"):
        mix({"text": np.ones((2, 3), np.float32)}, {"text": weight})
