"""What the layout says, made quick to ask: an asset's class, and where a message's tags go in its columns."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.problem import Problem, shown
from connectors.records import Layout, Reason
from connectors.units import UnitError, conversion

MAX_ASSET_NAME = 256
_MAX_CACHED = 65536


class Plan(NamedTuple):
    """Where the values of messages with the same tags and units go.

    Attributes:
        columns: [K] column of the class for each value that is used.
        take: [K] which of the message's values these are; None means all, in order.
        factor: [K] and
        offset: [K] of the unit conversion; None where no value needs one.
        ignored: number of unknown sensors that are skipped.
        problem: why such messages are refused, or None.
    """

    columns: NDArray[np.intp]
    take: NDArray[np.intp] | None
    factor: NDArray[np.float64] | None
    offset: NDArray[np.float64] | None
    ignored: int
    problem: Problem | None


class Catalog:
    """Answers questions about a `Layout`, remembering what was asked (within bounds)."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._classes: dict[str, int] = {}
        self._columns = [
            {sensor.tag: column for column, sensor in enumerate(each.sensors)} for each in layout.classes
        ]

    def class_of(self, asset: str) -> int:
        """Index of the first class with a pattern that fits the asset's name, or -1."""
        index = self._classes.get(asset)
        if index is None:
            if len(self._classes) >= _MAX_CACHED:
                self._classes.clear()
            index = self._classes[asset] = self._match(asset)
        return index

    def _match(self, asset: str) -> int:
        # A name with control or direction-changing characters could pass for another wherever it is shown.
        if not 0 < len(asset) <= MAX_ASSET_NAME or not asset.isprintable():
            return -1
        for index, each in enumerate(self.layout.classes):
            if any(fnmatchcase(asset, pattern) for pattern in each.assets):
                return index
        return -1

    def columns(self, class_index: int) -> Mapping[str, int]:
        """Column of each tag of a class."""
        return self._columns[class_index]

    def unknown_asset(self, asset: str) -> Problem:
        """Why an asset that no class takes is refused."""
        patterns = ", ".join(pattern for each in self.layout.classes for pattern in each.assets)
        return Problem(
            Reason.UNKNOWN_ASSET,
            f"asset: got {shown(asset)}, expected printable characters that fit one of the patterns {patterns}",
        )

    def unknown_sensor(self, class_index: int, tag: str) -> Problem:
        """Why a message with an unknown sensor is refused."""
        tags = ", ".join(self._columns[class_index])
        name = self.layout.classes[class_index].name
        return Problem(Reason.UNKNOWN_SENSOR, f"sensor: got {shown(tag)}, class {name} has {tags}")

    def conversion(self, class_index: int, column: int, unit: str) -> tuple[float, float] | Problem:
        """Factor and offset from a message's unit to the configured one, or why there is none."""
        sensor = self.layout.classes[class_index].sensors[column]
        try:
            return conversion(unit, sensor.unit)
        except UnitError as error:
            return Problem(Reason.UNIT_MISMATCH, f"sensor {sensor.tag}: {error}")

    def plan(self, class_index: int, tags: tuple[str, ...], units: Mapping[str, str]) -> Plan:
        """The plan for messages of a class with these tags, in this order, and these units."""
        known = self._columns[class_index]
        unknown = [tag for tag in tags if tag not in known]
        problem = None
        if unknown and not self.layout.ignore_unknown_sensors:
            problem = self.unknown_sensor(class_index, unknown[0])
        used = [(position, known[tag]) for position, tag in enumerate(tags) if tag in known]
        factor, offset = np.ones(len(used)), np.zeros(len(used))
        for place, (position, column) in enumerate(used):
            change = (
                self.conversion(class_index, column, units[tags[position]])
                if tags[position] in units
                else None
            )
            if isinstance(change, Problem):
                problem = problem or change
            elif change is not None:
                factor[place], offset[place] = change
        same = bool((factor == 1).all() and (offset == 0).all())
        return Plan(
            columns=np.array([column for _, column in used], dtype=np.intp),
            take=np.array([position for position, _ in used], dtype=np.intp) if unknown else None,
            factor=None if same else factor,
            offset=None if same else offset,
            ignored=len(unknown),
            problem=problem,
        )


def converted(
    values: NDArray[np.float64], factor: NDArray[np.float64] | float, offset: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Values in the configured unit; what overflows becomes infinite and is graded NON_FINITE later."""
    with np.errstate(over="ignore", invalid="ignore"):
        # adding 0.0 would turn -0.0 into 0.0, and a mere scaling must keep every bit
        scaled = values * factor
        return np.where(np.asarray(offset) == 0, scaled, scaled + offset)
