"""Peers in the same run, turn by turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec


class Scale(NamedTuple):
    """How much to measure; `QUICK` only shows that everything works.

    Attributes:
        rounds: turns of every contestant.
        assets: of the many-asset cases.
        rows: per asset and poll there.
        few_rows: of one asset in one poll, in the one-asset case.
        windows: per call of the score race.
        shapes: (sensors, samples, hidden) of the score race.
        blocks: windows per compiled call.
        scorers: of the trained bundle, in YAML.
        sensors: of the trained bundle.
        length: samples of the trained bundle's windows.
        strides: of the Kafka backlog.
        backlog: records that wait in Kafka for the daemon.
        live_rate: records a second in the latency case.
        live_seconds: how long.
    """

    rounds: int
    assets: int
    rows: int
    few_rows: int
    windows: int
    shapes: tuple[tuple[int, int, int], ...]
    blocks: tuple[int, ...]
    scorers: str
    sensors: int
    length: int
    strides: tuple[int, ...]
    backlog: int
    live_rate: int
    live_seconds: int


FULL = Scale(
    rounds=5,
    assets=1000,
    rows=10,
    few_rows=10_000,
    windows=1024,
    shapes=((8, 64, 64), (3, 30, 32)),
    blocks=(16, 32, 64, 128, 256),
    scorers="{lstm_autoencoder: {epochs: 2, epoch_windows: 512}, "
    "ocnn: {epochs: 2, epoch_windows: 512, alternations: 2, head_steps: 100}}",
    sensors=8,
    length=64,
    strides=(1, 16),
    backlog=100_000,
    live_rate=500,
    live_seconds=40,
)
QUICK = Scale(
    rounds=2,
    assets=20,
    rows=4,
    few_rows=64,
    windows=40,
    shapes=((3, 8, 4),),
    blocks=(16, 32),
    scorers="{pca: {}, var: {}}",
    sensors=3,
    length=8,
    strides=(1,),
    backlog=400,
    live_rate=100,
    live_seconds=4,
)


class Figure(msgspec.Struct, frozen=True):
    """One number of a table.

    Attributes:
        case: what is measured, with its sizes.
        name: who did it.
        unit: of the two values: 'rows/s' and the like, or a time.
        cpu: median over the rounds, per second (or in seconds) of CPU time of this process; null: not measured.
        wall: the same by the clock on the wall, which a busy machine slows.
        times: how many times the CPU time (or, without it, the time) of the first of the case; below 1 is faster.
    """

    case: str
    name: str
    unit: str
    cpu: float | None
    wall: float | None
    times: float | None = None


class Contestant(NamedTuple):
    """One of several ways to do the same.

    Attributes:
        name: who.
        call: what is timed; gets what ``prepare`` gave.
        prepare: called before every turn, outside the time.
    """

    name: str
    call: Callable[[Any], object]
    prepare: Callable[[], Any] = lambda: None


class Spent(NamedTuple):
    """Seconds of one call."""

    cpu: float
    wall: float


def race(
    case: str,
    contestants: Sequence[Contestant],
    work: float,
    unit: str,
    rounds: int,
    *,
    as_time: bool = False,
    peers: bool = True,
) -> list[Figure]:
    """Medians of interleaved rounds, after one that does not count.

    Args:
        case: for the table.
        contestants: the first one is what the others are compared with.
        work: how much of ``unit`` one call does.
        unit: 'rows/s', or what one call takes with ``as_time``.
        rounds: that count.
        as_time: give seconds per call, not work per second.
        peers: they do the same, so ratios mean something.
    """
    spent: list[list[Spent]] = [[] for _ in contestants]
    for turn in range(rounds + 1):
        for place in range(len(contestants)):
            who = (place + turn) % len(contestants)
            used = timed(contestants[who])
            if turn:
                spent[who].append(used)
    return [
        Figure(
            case,
            contestant.name,
            unit,
            _value(median(one.cpu for one in mine), work, as_time),
            _value(median(one.wall for one in mine), work, as_time),
            median(one.cpu / first.cpu for one, first in zip(mine, spent[0], strict=True)) if peers else None,
        )
        for contestant, mine in zip(contestants, spent, strict=True)
    ]


def timed(contestant: Contestant) -> Spent:
    """One turn."""
    prepared = contestant.prepare()
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    contestant.call(prepared)
    return Spent(time.process_time() - cpu, time.perf_counter() - wall)


def _value(seconds: float, work: float, as_time: bool) -> float:
    return seconds if as_time else work / seconds


def use_one_core() -> Callable[[], None]:
    """Keep this process on one core, before JAX starts its threads: rates are then rates per core.

    Returns:
        What gives the other cores back.
    """
    if not hasattr(os, "sched_setaffinity"):
        return lambda: None
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    return lambda: os.sched_setaffinity(0, before)


def machine() -> dict[str, Any]:
    """Where and under what load the figures were taken."""
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {
            name: version(name) for name in ("jax", "jaxlib", "numpy", "msgspec", "pyarrow", "kafka-python")
        },
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
