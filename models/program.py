"""All scorers of a bundle in one compiled call on blocks of one fixed shape.

XLA's results depend in the last bits on the shape of a batch. One shape for every block makes a window's
result independent of its neighbours, of padding and of its place in the block, so that a replay in other
portions gives the same bits. Several devices take whole blocks in turn: a block is never split. On a GPU,
also set ``XLA_FLAGS=--xla_gpu_deterministic_ops=true`` before the process starts.
"""

from __future__ import annotations

import copy
import functools
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.expectation import Bands, Expected, expect
from models.imputation import Imputation, impute
from models.registry import get_scorer
from models.scorer import Params, Scorer, Scores, Windows

Device = Any  # jax.Device is a variable to type checkers

_IN_FLIGHT = 4
"""Blocks per device that may wait for their results: it stays busy, and the memory bounded."""
_MOST_COMPILED = 32
"""Compiled calls that are kept for the next bundle of the same scorers and shapes."""


class Scored(NamedTuple):
    """What the scorers say of any number of windows, as NumPy arrays on the host.

    Attributes:
        score: [W, S] float32, higher is more anomalous.
        contributions: [W, S, D] float32, >= 0.
        expected: [W, D] float32, what each sensor should show at the window's last sample; z-scores, as are the rest.
        low: [W, D] float32, lower end of the normal band there.
        high: [W, D] float32, upper end.
        sigma: [W, D] float32, one standard deviation of normal around the expected value.
    """

    score: NDArray[np.float32]
    contributions: NDArray[np.float32]
    expected: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    sigma: NDArray[np.float32]


class _Block(NamedTuple):
    """One block's results, in the order of `Scored`."""

    score: jax.Array
    contributions: jax.Array
    expected: Expected


class _Learnt(NamedTuple):
    imputation: Imputation
    bands: Bands
    scorers: tuple[Params, ...]


def _learnt_of(bundle: Bundle) -> _Learnt:
    bands = Bands.from_arrays(bundle.calibration, len(bundle.sensors))
    return _Learnt(bundle.imputation, bands, tuple(one.params for one in bundle.scorers))


class _Compiled:
    """One compiled call, for every bundle of the same scorers, hyperparameters and shapes.

    Training makes many such bundles (a fold's, a candidate's, the next asset class's), and tracing costs more than
    scoring a short history does.
    """

    def __init__(self, scorers: tuple[tuple[Scorer, Any], ...]) -> None:
        self.traces = 0
        self._scorers = scorers
        self.call = jax.jit(self._score_block)

    def _score_block(self, learnt: _Learnt, values: jax.Array, mask: jax.Array) -> _Block:
        self.traces += 1
        windows = impute(learnt.imputation, Windows(values, mask))
        each: list[Scores] = [
            scorer.score(params, spec, windows)
            for (scorer, spec), params in zip(self._scorers, learnt.scorers, strict=True)
        ]
        return _Block(
            jnp.stack([one.score for one in each], axis=1),
            jnp.stack([one.contributions for one in each], axis=1),
            expect(learnt.imputation.precision, learnt.bands, values[:, -1], mask[:, -1]),
        )


@functools.lru_cache(maxsize=_MOST_COMPILED)
def _compiled(scorers: tuple[tuple[Scorer, Any], ...], layout: Hashable) -> _Compiled:
    """The call for these scorers and this ``layout`` of everything that goes in: one trace, until it changes."""
    del layout
    return _Compiled(scorers)


class Program:
    """A bundle, compiled for one block size and some devices; see `compile_program`."""

    def __init__(self, bundle: Bundle, block: int, devices: Sequence[Device]) -> None:
        self.scorers = tuple(one.name for one in bundle.scorers)
        self.block = block
        self._shape = (block, bundle.length, len(bundle.sensors))
        self._bundle = bundle
        learnt = _learnt_of(bundle)
        self._learnt = [jax.device_put(learnt, device) for device in devices]
        self._devices = tuple(devices)
        self._warm_traces: int | None = None
        leaves, tree = jax.tree.flatten(learnt)
        shapes = tuple((np.shape(leaf), str(leaf.dtype)) for leaf in leaves)
        plan = tuple((get_scorer(one.name), one.spec) for one in bundle.scorers)
        self._compiled = _compiled(plan, (self._shape, tree, shapes))

    def given(self, bundle: Bundle) -> Program:
        """The same compiled call with what another bundle has learnt; nothing is traced anew.

        Raises:
            ValueError: the bundle has other scorers, hyperparameters or shapes.
        """
        mine, its = ([(one.name, one.spec) for one in b.scorers] for b in (self._bundle, bundle))
        if mine != its or self._shape[1:] != (bundle.length, len(bundle.sensors)):
            raise ValueError(f"program: got a bundle of {its}, expected {mine} and windows of the same shape")
        other = copy.copy(self)
        learnt = _learnt_of(bundle)
        other._learnt = [jax.device_put(learnt, device) for device in self._devices]
        return other

    @property
    def recompiles(self) -> int:
        """Traces since `warm_up`; anything but 0 means that a shape or a type has changed."""
        return 0 if self._warm_traces is None else self._compiled.traces - self._warm_traces

    def warm_up(self) -> None:
        """Compile for every device, so that the first real window does not wait."""
        for turn in range(len(self._devices)):
            block = (np.zeros(self._shape, np.float32), np.ones(self._shape, np.bool_))
            jax.block_until_ready(self._dispatch(turn, block))
        self._warm_traces = self._compiled.traces

    def __call__(self, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> Scored:
        """Score any number of windows.

        Args:
            values: [W, T, D] float32 z-scores; what stands at masked entries is ignored but must be finite.
            mask: [W, T, D] True where a real reading stands.

        Raises:
            ValueError: the shapes are not those of the bundle, or the types are not float32 and bool.
        """
        if values.shape[1:] != self._shape[1:] or mask.shape != values.shape:
            raise ValueError(
                f"program: got values {values.shape} and mask {mask.shape}, expected both [windows, "
                f"{self._shape[1]}, {self._shape[2]}]"
            )
        if values.dtype != np.float32 or mask.dtype != np.bool_:
            raise ValueError(
                f"program: got values {values.dtype} and mask {mask.dtype}, expected float32 and bool"
            )
        count, sensors = len(values), self._shape[2]
        results = _empty(count, len(self.scorers), sensors)
        waiting: deque[tuple[int, _Block]] = deque()
        for turn, block in enumerate(self._blocks(values, mask)):
            if len(waiting) >= _IN_FLIGHT * len(self._devices):
                _collect(results, *waiting.popleft())
            waiting.append((turn * self.block, self._dispatch(turn, block)))
        for start, scored in waiting:
            _collect(results, start, scored)
        return results

    def _blocks(
        self, values: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        """Whole blocks; the last is padded with fully real zeros: padding never asks for imputation."""
        for start in range(0, len(values), self.block):
            part, real = values[start : start + self.block], mask[start : start + self.block]
            if len(part) == self.block:
                yield part, real
            else:
                padded = (np.zeros(self._shape, np.float32), np.ones(self._shape, np.bool_))
                padded[0][: len(part)], padded[1][: len(part)] = part, real
                yield padded

    def _dispatch(self, turn: int, block: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> _Block:
        place = turn % len(self._devices)
        return self._compiled.call(self._learnt[place], *jax.device_put(block, self._devices[place]))


def compile_program(
    bundle: Bundle, block: int | None = None, devices: Sequence[Device] | None = None
) -> Program:
    """Make a bundle ready to score.

    Args:
        bundle: what was trained.
        block: windows per compiled call; the bundle's own unless given (another size changes the last bits).
        devices: where to score; JAX's first device unless given.

    Returns:
        The program, not yet compiled: `Program.warm_up` does it.
    """
    return Program(bundle, block or bundle.block, devices or jax.devices()[:1])


def _empty(count: int, scorers: int, sensors: int) -> Scored:
    shapes = [(scorers,), (scorers, sensors), *[(sensors,)] * len(Expected._fields)]
    return Scored(*(np.empty((count, *shape), np.float32) for shape in shapes))


def _collect(results: Scored, start: int, block: _Block) -> None:
    for target, source in zip(results, (*block[:2], *block.expected), strict=True):
        room = target[start : start + len(source)]
        room[:] = np.asarray(source)[: len(room)]
