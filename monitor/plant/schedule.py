"""Which reactor starts a batch when: a plan made beforehand, as in a real plant, whatever then goes wrong.

Because no start depends on how an earlier batch went, all batches of all reactors can be integrated side by
side.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

CYCLE_S: Final = (8400.0, 8640.0)
"""Shortest and longest time from one batch's start to the next; an upset batch still ends within it."""
PURPOSE_SCHEDULE, PURPOSE_BATCH, PURPOSE_FLOW, PURPOSE_SENSOR, PURPOSE_WEATHER = range(5)
"""Each purpose has its own random streams, so that a longer simulation or a fault changes no other draw."""


class Clock(NamedTuple):
    """The plant's time: row n is ``start_ns`` + n times ``sampling_s``.

    Attributes:
        start_ns: epoch ns of row 0.
        sampling_s: seconds between rows.
        rows: number of rows.
    """

    start_ns: int
    sampling_s: float
    rows: int

    def at(self, row: int) -> int:
        """Epoch ns of a row."""
        return self.start_ns + row * round(self.sampling_s * 1e9)


class Slot(NamedTuple):
    """A reactor's time from one batch's start to the next, or (``ordinal`` -1) before its first.

    Attributes:
        asset: index of the reactor.
        ordinal: of the batch in its reactor, from 0; -1 before the first.
        first: row at which it begins.
        rows: its length.
    """

    asset: int
    ordinal: int
    first: int
    rows: int


def random_stream(seed: int, purpose: int, asset: int = 0) -> np.random.Generator:
    """The random stream of one purpose and one asset."""
    return np.random.default_rng([seed, purpose, asset])


def slots(seed: int, asset: int, assets: int, clock: Clock) -> tuple[Slot, ...]:
    """The slots of one of ``assets`` reactors, which start in turn and then keep to their own cycles."""
    random = random_stream(seed, PURPOSE_SCHEDULE, asset)
    first = round(asset * CYCLE_S[0] / assets / clock.sampling_s)
    found = [Slot(asset, -1, 0, first)] if first else []
    while first < clock.rows:
        rows = round(random.uniform(*CYCLE_S) / clock.sampling_s)
        found.append(Slot(asset, len(found) - bool(found and found[0].ordinal < 0), first, rows))
        first += rows
    return tuple(found)
