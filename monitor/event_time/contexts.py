"""Batch contexts as small integers, so that columns can carry and compare them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from connectors.records import NO_CONTEXT, Context

NEVER = 2**62
"""A slot number that no slot reaches."""


class Contexts:
    """Interned batch contexts; number 0 is `NO_CONTEXT`.

    Args:
        sampling: the grid's period in ns, to turn ``phase_started`` into a slot.

    Attributes:
        values: the contexts by number. Only ever appended to: `keep` starts another list.
        batch: [C] equal numbers for equal batch ids, -1 without one.
        phase: [C] equal numbers for equal (batch id, phase), -1 without a phase.
        phase_slot: [C] slot of ``phase_started``, `NEVER` without it.
    """

    def __init__(self, sampling: int) -> None:
        self._sampling = sampling
        self._start()

    def __len__(self) -> int:
        return len(self.values)

    def intern(self, contexts: Sequence[Context]) -> NDArray[np.int32]:
        """The numbers of these contexts."""
        before = len(self.values)
        numbers = [self._number(context) for context in contexts]
        if len(self.values) > before:
            self._index()
        return np.array(numbers, np.int32)

    def keep(self, used: Iterable[int]) -> NDArray[np.int32]:
        """Forget all but the ``used`` numbers; returns the new number of every old one (0 if forgotten)."""
        before, used = self.values, sorted(set(used) | {0})
        self._start()
        renumbered = np.zeros(len(before), np.int32)
        renumbered[used] = self.intern([before[number] for number in used])
        return renumbered

    def _start(self) -> None:
        self.values: list[Context] = []
        self._numbers: dict[Context, int] = {}
        self._batches: dict[str, int] = {}
        self._phases: dict[tuple[str | None, str], int] = {}
        self._keys: list[tuple[int, int, int]] = []
        self.intern([NO_CONTEXT])

    def _number(self, context: Context) -> int:
        number = self._numbers.get(context)
        if number is None:
            number = self._numbers[context] = len(self.values)
            self.values.append(context)
            self._keys.append(self._key(context))
        return number

    def _key(self, context: Context) -> tuple[int, int, int]:
        batch = phase = -1
        slot = NEVER
        if context.batch_id is not None:
            batch = self._batches.setdefault(context.batch_id, len(self._batches))
        if context.phase is not None:
            phase = self._phases.setdefault((context.batch_id, context.phase), len(self._phases))
        if context.phase_started is not None:
            slot = -(-context.phase_started // self._sampling)
        return batch, phase, slot

    def _index(self) -> None:
        keys = np.array(self._keys, np.int64)
        self.batch, self.phase, self.phase_slot = keys[:, 0], keys[:, 1], keys[:, 2]
