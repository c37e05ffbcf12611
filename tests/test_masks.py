"""What masked sensors do to ratios is measured and taken back: the asked rate under every single-sensor mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitor.configuration import parse
from monitor.model import Model
from monitor.thresholds.masks import Masks
from monitor.training import train
from tests.worlds import autoregressive, batch_of, configuration_text

SENSORS, LENGTH, NU = 4, 10, 0.05
FULL = np.array([LENGTH], np.int32)


def masks() -> Masks:
    profile = np.zeros((1, LENGTH))
    profile[0, -1], profile[0, -3:-1] = 0.6, 0.2
    return Masks(profile, np.array([[0.4, -0.2, 0.0, 0.1]]), np.array([[2.0, 0.5, 1.0, 1.0]]))


def hiding(*hidden: tuple[slice, int]) -> np.ndarray:
    mask = np.ones((1, LENGTH, SENSORS), np.bool_)
    for samples, sensor in hidden:
        mask[0, samples, sensor] = False
    return mask


@pytest.mark.parametrize(
    ("hidden", "shift", "stretch"),
    [
        ([], 0.0, 1.0),
        ([(slice(None), 0)], 0.4, 2.0),
        ([(slice(-1, None), 0)], 0.24, 2.0**0.6),
        ([(slice(-3, -1), 0)], 0.16, 2.0**0.4),
        ([(slice(0, -3), 0)], 0.0, 1.0),
        ([(slice(None), 0), (slice(None), 1)], 0.2, 1.0),
    ],
)
def test_a_mask_counts_by_the_part_of_the_window_that_counts(
    hidden: list[tuple[slice, int]], shift: float, stretch: float
) -> None:
    effect = masks().effect(hiding(*hidden), FULL)
    assert effect.shift[0, 0] == pytest.approx(shift)
    assert effect.stretch[0, 0] == pytest.approx(stretch)


def test_what_lies_before_a_batchs_start_is_not_a_masked_sensor() -> None:
    mask = np.ones((1, LENGTH, SENSORS), np.bool_)
    mask[0, :-1] = False
    effect = masks().effect(mask, np.array([1], np.int32))
    assert (effect.shift[0, 0], effect.stretch[0, 0], effect.degraded[0]) == (0.0, 1.0, False)


def test_more_than_one_masked_sensor_is_said_to_be_degraded() -> None:
    whole = slice(None)
    said = [masks().effect(hiding(*((whole, d) for d in range(n))), FULL).degraded[0] for n in range(4)]
    assert said == [False, False, True, True]


def test_a_window_keeps_its_bits_whatever_stands_beside_it() -> None:
    mask = np.random.default_rng(0).random((40, LENGTH, SENSORS)) > 0.3
    maturity = np.full(40, LENGTH, np.int32)
    together = masks().effect(mask, maturity)
    for w in range(40):
        alone = masks().effect(mask[w : w + 1], maturity[w : w + 1])
        assert alone.shift.tobytes() == together.shift[w : w + 1].tobytes()
        assert alone.stretch.tobytes() == together.stretch[w : w + 1].tobytes()


@pytest.mark.parametrize("method", ["holdout", "folds"])
def test_nu_is_kept_under_every_single_sensor_mask_and_would_not_be_by_chance(method: str) -> None:
    text = configuration_text(SENSORS, LENGTH, "{pca: {}, var: {}}", nu=NU)
    text = text.replace("enough: 1}", f"enough: 1, method: {method}, folds: 3}}")
    asset_class = parse(text, Path("world.yaml")).settings.asset_classes["unit"]
    history = batch_of({"plant/0": autoregressive(1, 6000, SENSORS, 0.6)})
    model = Model(train(asset_class, "unit", [history], config_hash="c").bundle, asset_class)
    values = autoregressive(2, 6000, SENSORS, 0.6)
    none = np.zeros(len(values), np.int64)
    z = model.trajectory.z(values, none.astype(np.int32), none)
    windows = np.lib.stride_tricks.sliding_window_view(z, LENGTH, axis=0).transpose(0, 2, 1)
    maturity = np.full(len(windows), LENGTH, np.int32)
    for sensor in range(SENSORS):
        mask = np.ones(windows.shape, np.bool_)
        mask[:, :, sensor] = False
        u = model.scales.on_scale(model.score(np.ascontiguousarray(windows), mask).score, maturity)
        effect = model.scales.masks.effect(mask, maturity)
        over = ((u - effect.shift) / effect.stretch > 1.0).mean(axis=0)
        assert ((over >= 0.6 * NU) & (over <= 1.5 * NU)).all(), (sensor, over)
