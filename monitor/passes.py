"""What one pass of the fold over the closed slots of a batch holds, and what comes of it.

Shape letters: M closed slots, W windows, S scorers, C sensors, D scored sensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import Context
from monitor.alerting.incidents import Track, Transition
from monitor.event_time.grid import Refusal, Silence, Slots
from monitor.event_time.losses import Found
from monitor.excursions import INSIDE
from monitor.thresholds.adaptation_events import AdaptationEvent, Recentred
from monitor.thresholds.centre import Centres


class Rated(NamedTuple):
    """W windows with all that the scorers and thresholds say of them; NaN where a window is not scored.

    Attributes:
        slot: [W] index of the closing slot among the slots of the pass.
        coverage: [W] share of real readings.
        maturity: [W] samples since the window's stretch began, at most its length.
        known: [W] bool, coverage can be judged: trained and mature.
        scored: [W] bool.
        score: [W, S] raw scores.
        on_scale: [W, S] scores on the bundle's ratio scale, the effect of masked sensors taken back.
        mask_shift: [W, S] that effect: the score's own ratio is mask_shift + mask_stretch * on_scale.
        mask_stretch: [W, S].
        verdict_factor: [W, S] what persons' verdicts have multiplied `on_scale` by; 1 without any.
        rank: [W, S] calibration ranks.
        contributions: [W, S, D], as each scorer gives them.
        share: [W, D] each sensor's share in the smoothed ratio, summing to 1.
        expected: [W, D] what each sensor should show at the window's end; z-scores, as are the next three.
        low: [W, D] lower end of the normal band there.
        high: [W, D] upper end.
        sigma: [W, D] one standard deviation of normal around the expected value.
        outside: [W, D] bool, an observed sensor is outside its normal band.
        away: [W, D] distance from expected, in standard deviations; 0 where masked.
        masked: [W, D] bool, a sensor is not observed at the window's end.
        left: [W, D] since when each sensor has been outside its normal band, ns since the epoch; `INSIDE` where it
            has not.
        scorer_ratio: [W, S] under the version in force.
        ratio: [W] combined and smoothed, 1.0 is the limit.
        version: [W] threshold version in force.
        scorer_limit: [W, S] each scorer's limit in force, on the bundle's ratio scale.
        final_limit: [W] limit in force of the combined, smoothed ratio.
        drift: [W] where the threshold was in its life when the window was judged, codes of `State`.
        gate: [W] whether the limit followed the scores at this window, codes of `Gate`.
        recent: [W] of the last 40 scored windows, those over the limit: what closes the gate.
        centre: [W, D] how far from their trained centres sensors are scored, in sigma.
    """

    slot: NDArray[np.int64]
    coverage: NDArray[np.float32]
    maturity: NDArray[np.int32]
    known: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    score: NDArray[np.float64]
    on_scale: NDArray[np.float64]
    mask_shift: NDArray[np.float64]
    mask_stretch: NDArray[np.float64]
    verdict_factor: NDArray[np.float64]
    rank: NDArray[np.float64]
    contributions: NDArray[np.float32]
    share: NDArray[np.float64]
    expected: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    sigma: NDArray[np.float32]
    outside: NDArray[np.bool_]
    away: NDArray[np.float64]
    masked: NDArray[np.bool_]
    left: NDArray[np.int64]
    scorer_ratio: NDArray[np.float64]
    ratio: NDArray[np.float64]
    version: NDArray[np.int32]
    scorer_limit: NDArray[np.float64]
    final_limit: NDArray[np.float64]
    drift: NDArray[np.uint8]
    gate: NDArray[np.uint8]
    recent: NDArray[np.int64]
    centre: NDArray[np.float32]


class Pass(NamedTuple):
    """One pass over the closed slots of a batch.

    Attributes:
        slots: the slots; values of masked sensors still as read.
        faults: [M, C] codes of `Fault`.
        centres: which sensors have left their trained centre.
        z: [M, D] z-scores around the trained centres; 0 where there is none.
        usable: [M, D] where there is one.
        group: [M] trajectory group of each slot.
        age: [M] samples since the group began.
        rated: its windows.
        contexts: what the slots' context numbers mean.
        not_finite: windows that were scored without a finite number, as indices among those of `rated`.
    """

    slots: Slots
    faults: NDArray[np.uint8]
    centres: Centres
    z: NDArray[np.float32]
    usable: NDArray[np.bool_]
    group: NDArray[np.int32]
    age: NDArray[np.int64]
    rated: Rated
    contexts: Sequence[Context]
    not_finite: NDArray[np.int64]

    @property
    def not_finite_rows(self) -> NDArray[np.int32]:
        """Row of the asset of each of these windows."""
        return self.slots.row[self.rated.slot[self.not_finite]]


class Happening(NamedTuple):
    """A transition of an incident with where in the pass it happened.

    Attributes:
        transition: what happened.
        track: of which condition.
        slot: index of the slot in the pass.
        window: index of the window in the pass, or -1 (sensor faults act on slots).
    """

    transition: Transition
    track: Track
    slot: int
    window: int


class Acted(NamedTuple):
    """What came of a pass.

    Attributes:
        done: the pass, for alerts and traces.
        happenings: transitions of incidents, in order per asset.
        adaptations: what drift and re-estimation did, with the window's index (-1: a command).
        recentred: centres that moved before it, with the slot's index.
    """

    done: Pass
    happenings: list[Happening]
    adaptations: list[tuple[AdaptationEvent, int]]
    recentred: list[tuple[Recentred, int]]


class Output(NamedTuple):
    """What came of a batch.

    Attributes:
        passes: over its closed slots, at least one; several where sensors are re-centred.
        silences: gaps that ended with this batch.
        found: assets that are heard again after records of theirs were lost.
        refused: rows that are not reflected in windows.
        counts: quantities by bounded name.
    """

    passes: list[Acted]
    silences: tuple[Silence, ...]
    found: tuple[Found, ...]
    refused: tuple[Refusal, ...]
    counts: dict[str, int]


def empty_rated(windows: int, scorers: int, sensors: int) -> Rated:
    """W windows of which nothing is known yet."""

    def unknown(*shape: int) -> NDArray[np.float64]:
        return np.full(shape, np.nan)

    return Rated(
        slot=np.zeros(windows, np.int64),
        coverage=np.zeros(windows, np.float32),
        maturity=np.zeros(windows, np.int32),
        known=np.zeros(windows, np.bool_),
        scored=np.zeros(windows, np.bool_),
        score=unknown(windows, scorers),
        on_scale=unknown(windows, scorers),
        mask_shift=unknown(windows, scorers),
        mask_stretch=unknown(windows, scorers),
        verdict_factor=np.ones((windows, scorers)),
        rank=unknown(windows, scorers),
        contributions=np.zeros((windows, scorers, sensors), np.float32),
        share=np.zeros((windows, sensors)),
        expected=np.full((windows, sensors), np.nan, np.float32),
        low=np.full((windows, sensors), np.nan, np.float32),
        high=np.full((windows, sensors), np.nan, np.float32),
        sigma=np.full((windows, sensors), np.nan, np.float32),
        outside=np.zeros((windows, sensors), np.bool_),
        away=np.zeros((windows, sensors)),
        masked=np.zeros((windows, sensors), np.bool_),
        left=np.full((windows, sensors), INSIDE, np.int64),
        scorer_ratio=unknown(windows, scorers),
        ratio=unknown(windows),
        version=np.zeros(windows, np.int32),
        scorer_limit=unknown(windows, scorers),
        final_limit=unknown(windows),
        drift=np.zeros(windows, np.uint8),
        gate=np.zeros(windows, np.uint8),
        recent=np.zeros(windows, np.int64),
        centre=np.zeros((windows, sensors), np.float32),
    )
