"""Declared changes of context: what tells a grade change from a broken sensor.

From the scores alone the two are the same data. A change counts as declared when a slot's recipe, phase or set-point
differs from the slot before AND is not one that the model was trained on: a routine phase change explains no
shift, because the model knows that phase. See docs/adr/0002-declared-changes.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import Context
from monitor.event_time.grid import Slots
from monitor.event_time.segments import ends_of, latest_true, numbers_of, shifted, starts_of
from monitor.settings import AssetClass
from monitor.table import Table

_NOTHING = 0


class TrainedContexts(NamedTuple):
    """The contexts of the training history.

    Attributes:
        recipes: names of recipes.
        phases: names of phases.
        setpoints: by set-point sensor, the range [low, high] of its values.
    """

    recipes: frozenset[str]
    phases: frozenset[str]
    setpoints: Mapping[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """Plain data for a bundle's manifest."""
        return {
            "recipes": sorted(self.recipes),
            "phases": sorted(self.phases),
            "setpoints": {name: list(limits) for name, limits in sorted(self.setpoints.items())},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainedContexts:
        """Read what `to_json` gave."""
        setpoints = {name: (float(low), float(high)) for name, (low, high) in data["setpoints"].items()}
        return cls(frozenset(data["recipes"]), frozenset(data["phases"]), setpoints)


class Declarations:
    """Finds declared changes, slot by slot.

    Args:
        asset_class: its sensors; those of role ``setpoint`` declare.
        trained: the contexts of the training history.
    """

    def __init__(self, asset_class: AssetClass, trained: TrainedContexts) -> None:
        sensors = list(asset_class.sensors.items())
        self._columns = [c for c, (_, sensor) in enumerate(sensors) if sensor.role == "setpoint"]
        limits = [trained.setpoints.get(sensors[c][0], (np.inf, -np.inf)) for c in self._columns]
        self._low = np.array([low for low, _ in limits])
        self._high = np.array([high for _, high in limits])
        self._trained = trained
        width = (len(self._columns),)
        fields = [
            ("recipe", np.uint64, ()),
            ("phase", np.uint64, ()),
            ("setpoint", np.float64, width),
            ("pending", np.bool_, ()),
        ]
        self._table = Table(fields, {"setpoint": np.nan})

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        return self._table.dump(row)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave."""
        self._table.load(row, data)

    def step(
        self, slots: Slots, contexts: Sequence[Context], ends_window: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Where a window ends with a change since the window before it.

        Args:
            slots: M slots, sorted by row and time.
            contexts: what their context numbers mean.
            ends_window: [M] True at slots that end a window.

        Returns:
            [M], True only where ``ends_window`` is.
        """
        if not len(slots.row):
            return np.zeros(0, np.bool_)
        return self._gathered(slots.row, self._changes(slots, contexts), ends_window)

    def _changes(self, slots: Slots, contexts: Sequence[Context]) -> NDArray[np.bool_]:
        """True [M] at slots whose context changed to one outside the training."""
        recipe, new_recipe = self._coded(slots, [c.recipe for c in contexts], self._trained.recipes)
        phase, new_phase = self._coded(slots, [c.phase for c in contexts], self._trained.phases)
        changed = self._changed("recipe", slots.row, recipe) & new_recipe
        changed |= self._changed("phase", slots.row, phase) & new_phase
        if self._columns:
            changed |= self._setpoint_changed(slots)
        return changed

    def _gathered(
        self, row: NDArray[np.int32], changed: NDArray[np.bool_], ends_window: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Changes moved on to the end of the window that they fall into; the rest waits in the state."""
        first = np.concatenate([[True], row[1:] != row[:-1]])
        seen = np.cumsum(changed | (first & self._table["pending"][row]))
        boundary = first | np.concatenate([[False], ends_window[:-1]])
        since = np.maximum.accumulate(np.where(boundary, np.arange(len(row)), 0))
        before = np.concatenate([[0], seen[:-1]])[since]
        gathered = seen > before
        last = np.concatenate([first[1:], [True]])
        self._table["pending"][row[last]] = (gathered & ~ends_window)[last]
        return gathered & ends_window

    def _coded(
        self, slots: Slots, names: list[str | None], trained: frozenset[str]
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Each slot's name as a number, and whether it is a name outside the training."""
        codes = np.array([_code(name) for name in names], np.uint64)
        new = np.array([name is not None and name not in trained for name in names], np.bool_)
        return codes[slots.context], new[slots.context]

    def _changed(self, field: str, row: NDArray[np.int32], value: NDArray[np.uint64]) -> NDArray[np.bool_]:
        first = np.concatenate([[True], row[1:] != row[:-1]])
        before = np.where(first, self._table[field][row], np.roll(value, 1))
        last = np.concatenate([first[1:], [True]])
        self._table[field][row[last]] = value[last]
        return value != before

    def _setpoint_changed(self, slots: Slots) -> NDArray[np.bool_]:
        """True [M] where a set-point differs from its last known value: a gap in its readings is no change."""
        row, value = slots.row, slots.values[:, self._columns]
        starts = starts_of(row)
        latest = latest_true(np.isfinite(value), starts[numbers_of(starts, len(row))])
        known = np.take_along_axis(value, np.maximum(latest, 0), axis=0)
        known = np.where(latest >= 0, known, self._table["setpoint"][row])
        before = shifted(known, starts, self._table["setpoint"][row[starts]])
        last = ends_of(starts, len(row))
        self._table["setpoint"][row[last]] = known[last]
        moved = np.isfinite(value) & (value != before)
        return (moved & ((value < self._low) | (value > self._high))).any(axis=1)


def _code(name: str | None) -> int:
    if name is None:
        return _NOTHING
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
