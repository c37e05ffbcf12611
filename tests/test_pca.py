"""Principal components: what the index is made of, against NumPy."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from models.pca import PcaSpec, fit, score
from models.scorer import Windows
from tests.worlds import autoregressive


def windows(values: np.ndarray) -> Windows:
    """Each row as a window of one sample."""
    rows = values[:, None, :].astype(np.float32)
    return Windows(rows, np.ones(rows.shape, np.bool_))


@pytest.mark.parametrize("seed", range(12))
def test_where_every_component_is_kept_the_index_is_hotellings_alone(seed: int) -> None:
    """Three sensors of nearly equal variance: nothing is left for the residual, not even a rounding error."""
    values = autoregressive(seed, 1056, 3, 0.5) - [10.0, 20.0, 30.0]
    values = (values - values.mean(0)) / values.std(0)
    fitted = fit(jax.random.key(0), windows(values), PcaSpec(), lambda *_: None)
    index = np.asarray(fitted.params["index"], np.float64)
    assert np.linalg.eigvalsh(index).min() > 0.0

    rows = values.astype(np.float32).astype(np.float64)
    moments = rows.T @ rows / len(rows)
    covariance = 0.99 * moments + np.diag((0.01 + 0.001 * 0.01) * np.diag(moments))
    distance = np.einsum("bi,ij,bj->b", rows, np.linalg.inv(covariance), rows)
    expected = distance / np.quantile(distance, 0.99)
    got = np.asarray(score(fitted.params, PcaSpec(), windows(values)).score)
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-3)
