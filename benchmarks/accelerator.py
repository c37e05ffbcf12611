"""An accelerator beside the CPU of the same machine: the same windows, the same parameters, the same process.

    XLA_FLAGS=--xla_gpu_deterministic_ops=true python -m benchmarks.accelerator [--quick]

Three questions: how many windows a second, by windows per compiled call; how far its scores are from the CPU's, and
whether it gives the same bits twice; how long a training takes. Without an accelerator the CPU is shown alone. Times
are by the clock, medians over rounds in turns: an accelerator's work is no CPU time. A call begins and ends with
arrays in the machine's own memory, as in the daemon.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from benchmarks.score import only
from models.program import Program, compile_program
from models.registry import get_scorer
from models.scorer import Windows
from tests.bundles import random_bundle

Device = jax.Device

_NAMES: Final = ("lstm_autoencoder", "ocnn")
_SHAPE: Final = (8, 64, 64)
"""Sensors, samples, hidden units."""


class Scale(NamedTuple):
    """How much to measure.

    Attributes:
        blocks: windows per compiled call.
        windows: scored per turn.
        rounds: turns.
        training: windows of a training.
    """

    blocks: tuple[int, ...]
    windows: int
    rounds: int
    training: int


FULL: Final = Scale((64, 256, 1024, 8192), 65_536, 5, 100_000)
QUICK: Final = Scale((64, 256), 512, 2, 2_000)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="An accelerator beside the CPU of the same machine.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, not how fast")
    scale = QUICK if parser.parse_args(arguments).quick else FULL
    devices = candidates()
    print(f"jax {jax.__version__}; " + ", ".join(f"{d.platform}: {d.device_kind}" for d in devices))
    if len(devices) == 1:
        print("no accelerator: the CPU alone")
    windows = drawn(scale.windows)
    for block in scale.blocks:
        _scoring(devices, windows, block, scale.rounds)
    _training(devices, drawn(scale.training)[0])


def candidates() -> list[Device]:
    """The CPU, and the accelerator that JAX would take, if there is one."""
    cpu, chosen = jax.devices("cpu")[0], jax.devices()[0]
    return [cpu] if chosen.platform == "cpu" else [cpu, chosen]


def drawn(count: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Windows [count, T, D] of autocorrelated noise, all real."""
    sensors, length, _ = _SHAPE
    values = np.random.default_rng(5).normal(size=(count, length, sensors)).astype(np.float32)
    values[:, 1:] += 0.7 * values[:, :-1]
    return values, np.ones(values.shape, np.bool_)


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Largest difference of scores [W, S], in spreads of each scorer's scores."""
    return float(np.max(np.abs(one - other) / np.std(one, axis=0)))


def _scoring(devices: Sequence[Device], windows: tuple[Any, Any], block: int, rounds: int) -> None:
    bundle = only(random_bundle(*_SHAPE, block), *_NAMES)
    programs = [compile_program(bundle, devices=[device]) for device in devices]
    for program in programs:
        program.warm_up()
    count = len(windows[0]) if block > 64 else len(windows[0]) // 8  # small blocks are slow on an accelerator
    values, mask = windows[0][:count], windows[1][:count]
    taken = _turns([_scorer(program, values, mask) for program in programs], rounds)
    scores = [program(values, mask).score for program in programs]
    for device, seconds, program, score in zip(devices, taken, programs, scores, strict=True):
        same = np.array_equal(score, program(values, mask).score)
        print(
            f"score, block {block:5d}, {device.platform:4s}: {count / seconds:12,.0f} windows/s"
            f"   x {taken[0] / seconds:6.2f}   off the CPU's by at most {difference(scores[0], score):.1e} spreads"
            f"   twice the same bits: {'yes' if same else 'NO'}",
            flush=True,
        )


def _scorer(program: Program, values: Any, mask: Any) -> Callable[[], object]:
    return lambda: program(values, mask)


def _training(devices: Sequence[Device], values: NDArray[np.float32]) -> None:
    windows = Windows(values, np.ones(values.shape, np.bool_))
    for name in _NAMES:
        scorer = get_scorer(name)
        taken: list[float] = []
        for device in devices:
            with jax.default_device(device):
                began = time.perf_counter()
                scorer.fit(jax.random.key(0), windows, scorer.spec(), lambda *_: None)
                taken.append(time.perf_counter() - began)
            print(
                f"train {name} on {len(values):,} windows, default settings, {device.platform:4s}: "
                f"{taken[-1]:7.1f} s   x {taken[0] / taken[-1]:6.2f}   (compilation included)",
                flush=True,
            )


def _turns(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each call, turn by turn."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, mine in zip(calls, taken, strict=True):
            began = time.perf_counter()
            call()
            mine.append(time.perf_counter() - began)
    return [median(mine) for mine in taken]


if __name__ == "__main__":
    main()
