"""Score: windows through the compiled scorers, by block size, beside flax's own batch-major network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Contestant, Figure, Scale, race
from models.bundle import Bundle
from models.lstm import LstmWeights
from models.lstm_autoencoder import past
from models.lstm_network import Autoencoder, unpack
from models.program import Program, compile_program
from models.residuals import per_sensor, step_signatures, weighed
from models.scorer import Scores
from tests.bundles import random_bundle

Both = tuple[NDArray[np.float32], NDArray[np.bool_]]


def run(scale: Scale) -> list[Figure]:
    """Windows a second by block size, then what a call with one window takes."""
    figures: list[Figure] = []
    for shape in scale.shapes:
        for block in scale.blocks:
            figures += _against_flax(scale, shape, block)
        figures += _by_block(scale, shape)
        figures += _one_window(scale, shape)
    return figures


def _against_flax(scale: Scale, shape: tuple[int, int, int], block: int) -> list[Figure]:
    sensors, length, hidden = shape
    bundle = only(random_bundle(sensors, length, hidden, block), "lstm_autoencoder")
    windows = _windows(scale.windows // block * block or block, shape)
    ours = _warm(bundle)
    flax = _flax(bundle)
    return race(
        f"lstm_autoencoder {sensors} x {length} x {hidden}, block {block}",
        [
            Contestant("nuwatch (feature-major)", lambda _: ours(*windows)),
            Contestant(
                "flax (batch-major OptimizedLSTMCell, RNN)", lambda _: _in_blocks(flax, block, windows)
            ),
        ],
        len(windows[0]),
        "windows/s",
        scale.rounds,
    )


def _by_block(scale: Scale, shape: tuple[int, int, int]) -> list[Figure]:
    """The default scorers at every block size, on a number of windows that no block size divides."""
    sensors, length, hidden = shape
    windows = _windows(scale.windows - 24, shape)
    programs = {b: _warm(only(random_bundle(*shape, b), "lstm_autoencoder", "ocnn")) for b in scale.blocks}
    return race(
        f"lstm_autoencoder and ocnn {sensors} x {length} x {hidden}, {len(windows[0])} windows a call",
        [Contestant(f"block {b}", lambda _, p=program: p(*windows)) for b, program in programs.items()],
        len(windows[0]),
        "windows/s",
        scale.rounds,
    )


def _one_window(scale: Scale, shape: tuple[int, int, int]) -> list[Figure]:
    """A poll that ends one window pays for a whole block."""
    sensors, length, hidden = shape
    windows = _windows(1, shape)
    programs = {b: _warm(only(random_bundle(*shape, b), "lstm_autoencoder", "ocnn")) for b in scale.blocks}
    return race(
        f"lstm_autoencoder and ocnn {sensors} x {length} x {hidden}, one window a call",
        [Contestant(f"block {b}", lambda _, p=program: p(*windows)) for b, program in programs.items()],
        1,
        "s",
        3 * scale.rounds,
        as_time=True,
    )


def only(bundle: Bundle, *names: str) -> Bundle:
    """The bundle with these scorers alone."""
    return replace(bundle, scorers=tuple(one for one in bundle.scorers if one.name in names))


def _warm(bundle: Bundle) -> Program:
    program = compile_program(bundle)
    program.warm_up()
    return program


def _windows(count: int, shape: tuple[int, int, int]) -> Both:
    sensors, length, _ = shape
    values = np.random.default_rng(5).normal(size=(count, length, sensors)).astype(np.float32)
    return values, np.ones(values.shape, np.bool_)


def _flax(bundle: Bundle) -> Any:
    """The training network with the same weights, and the same judgement of its residuals."""
    scorer = bundle.scorers[0]
    params = scorer.params
    variables = unpack(LstmWeights(**params["weights"]))
    network = Autoencoder(scorer.spec.hidden, scorer.spec.tail)
    linear = params["forecast"]

    @jax.jit
    def score(variables: Any, values: jax.Array, mask: jax.Array) -> Scores:
        guess: Any = network.apply(variables, values)
        expected = past(values, linear) @ linear + guess.corrections[:, -1]
        residual, real = values[:, -1] - expected, mask[:, -1]
        squared, shares = weighed(residual, real, params["precision"], step_signatures(linear))
        return Scores(per_sensor(squared, values.shape[2]), shares, expected)

    return lambda values, mask: score(variables, values, mask)


def _in_blocks(score: Any, block: int, windows: Both) -> list[Any]:
    values, mask = windows
    parts = [
        score(values[low : low + block], mask[low : low + block]) for low in range(0, len(values), block)
    ]
    return jax.device_get(parts)
