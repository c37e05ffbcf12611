"""What the demo's plant does: days of normal operation to learn from, then days with planted events.

Both are one run of one plant with one weather, cut in two: live begins in the very second in which history ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from monitor.evaluation.comparison import Planted
from monitor.plant import (
    BatchRun,
    Event,
    Fault,
    FaultKind,
    Simulation,
    asset_names,
    between,
    simulate,
    tour,
)
from monitor.quantities import Instant

HISTORY_DAYS: Final = 48.0
"""Enough to have seen the weather, which nobody measures: after a week, the next cold night looks like a fault."""
LIVE_DAYS: Final = 1.5
DAY_S: Final = 86_400.0
FIRST: Final = Instant.parse("2026-06-01T00:00:00Z")
QUIET_S: Final = 7_200.0
"""Live operation before anything is planted."""
CAMPAIGN_DAYS: Final = 3
"""In history every reactor makes the other grade on one day in three, not all of them on the same day."""

_NAMES: Final = {FaultKind.STUCK_SENSOR: "stuck {}", FaultKind.DRIFTING_SENSOR: "drifting {}"}


class Performance(NamedTuple):
    """The plant's two acts.

    Attributes:
        history: normal operation; both recipes occur in it.
        live: what follows, with faults and a grade change.
        planted: the truth about ``live``.
    """

    history: Simulation
    live: Simulation
    planted: tuple[Planted, ...]


def perform(
    seed: int,
    reactors: int = 4,
    history_days: float = HISTORY_DAYS,
    live_days: float = LIVE_DAYS,
    sampling_s: float = 10.0,
) -> Performance:
    """Run the plant.

    Args:
        seed: of everything random.
        reactors: how many.
        history_days: of normal operation.
        live_days: of what follows; the planted events need about one.
        sampling_s: between rows, s.

    Raises:
        ConfigurationError: the planted events do not fit into the time.
    """
    history_s = history_days * DAY_S
    whole_s = history_s + live_days * DAY_S
    faults = tour(seed, reactors, whole_s, history_s + QUIET_S, sampling_s)
    plan = (*campaigns(reactors, history_days), *faults)
    run = simulate(seed, reactors, int(FIRST), whole_s, sampling_s, plan)
    cut = int(FIRST) + round(history_s * 1e9)
    end = int(run.time[-1]) + 1
    planted = tuple(_planted(event, run.batches) for event in run.events if event.start_ns >= cut)
    return Performance(between(run, int(FIRST), cut), between(run, cut, end), planted)


def campaigns(reactors: int, days: float) -> Iterator[Fault]:
    """The other grade's days in history, as declared grade changes."""
    for number, asset in enumerate(asset_names(reactors)):
        for day in range(int(days) - 1):
            if (day + number) % CAMPAIGN_DAYS == 0:
                yield Fault(FaultKind.GRADE_CHANGE, asset, day * DAY_S, DAY_S)


def _planted(event: Event, batches: tuple[BatchRun, ...]) -> Planted:
    """The event, until the end of the batch in which its cause ended: an upset batch does not become normal."""
    name = _NAMES.get(event.kind, event.kind.value.replace("_", " ")).format(event.sensor)
    ends = [
        batch.end_ns
        for batch in batches
        if batch.asset == event.asset and batch.start_ns < event.end_ns < batch.end_ns
    ]
    return Planted(event.asset, name, event.start_ns, max([event.end_ns, *ends]), event.benign)
