"""Labelled data as the benchmark takes it: series of rows, some to learn from, some to be judged.

Shape letters: N rows of a series, C sensors.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import NO_CONTEXT, Context
from monitor.errors import UsageError
from monitor.settings import AssetClass


class Split(IntEnum):
    """What a row is for: training fits the models, calibration sets limits, the test is judged."""

    TRAIN = 0
    CALIB = 1
    TEST = 2


class Stretch(NamedTuple):
    """Rows ``first`` <= row < ``last`` of one split."""

    split: int
    first: int
    last: int


class Series(NamedTuple):
    """Rows of one asset in order of time.

    Attributes:
        name: unique in its data set; also the name of its score file.
        time: [N] int64, ns since the epoch, never falling.
        values: [N, C] float64, NaN where there is no reading.
        label: [N] int8, 1 anomalous, 0 normal, -1 unknown.
        split: [N] int8, `Split`.
        stamps: [N] the times as they are written to score files; empty: ISO 8601 of ``time``.
        order: [N] place of each row in the file that it came from; empty: as they are.
        contexts: batch contexts that ``context`` points to; the first is `NO_CONTEXT`.
        context: [N] int32; empty: all rows have none.
        kind: what its fault is called, where it has one.
    """

    name: str
    time: NDArray[np.int64]
    values: NDArray[np.float64]
    label: NDArray[np.int8]
    split: NDArray[np.int8]
    stamps: Sequence[str] = ()
    order: NDArray[np.int64] = np.zeros(0, np.int64)
    contexts: tuple[Context, ...] = (NO_CONTEXT,)
    context: NDArray[np.int32] = np.zeros(0, np.int32)
    kind: str = ""

    @property
    def truth(self) -> NDArray[np.bool_]:
        """[N] True where labelled anomalous."""
        return self.label == 1

    @property
    def judged(self) -> NDArray[np.bool_]:
        """[N] True where the row is of the test and its label is known."""
        return (self.split == Split.TEST) & (self.label >= 0)

    @property
    def learns(self) -> bool:
        """Whether it has rows to learn from."""
        return bool((self.split != Split.TEST).any())

    def stretches(self) -> list[Stretch]:
        """Unbroken stretches of one split, in order of time."""
        edges = np.flatnonzero(np.diff(self.split)) + 1
        bounds = [0, *edges.tolist(), len(self.split)] if len(self.split) else [0]
        return [Stretch(int(self.split[first]), first, last) for first, last in pairwise(bounds)]


class Model(NamedTuple):
    """Series with the same sensors that share one trained model.

    Attributes:
        name: of the asset class.
        sensors: names of the C columns.
        learn: series whose rows before the test teach.
        judge: series that are scored.
        template: settings other than the defaults, which a batch process needs; None: the defaults.
    """

    name: str
    sensors: tuple[str, ...]
    learn: tuple[Series, ...]
    judge: tuple[Series, ...]
    template: AssetClass | None = None


class DataSet(NamedTuple):
    """Series to be judged, and which of them share a model.

    Attributes:
        name: of the data set; also of its folder of score files.
        models: at least one.
        notes: what was assumed or left out when it was read.
    """

    name: str
    models: tuple[Model, ...]
    notes: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[Series, ...]:
        """All series that are scored."""
        return tuple(series for model in self.models for series in model.judge)


def own_model(series: Series, sensors: tuple[str, ...]) -> Model:
    """A model for this series alone."""
    return Model(series.name, sensors, (series,), (series,))


def data_folder(name: str, given: Path | None) -> Path:
    """Folder of a data set: below ``given``, else below `NUWATCH_DATA`.

    Raises:
        UsageError: it is not there.
    """
    home = os.environ.get("NUWATCH_DATA")
    places = [given] if given is not None else [Path(home)] if home else []
    for place in places:
        if (place / name).is_dir():
            return place / name
    where = f"not in {places[0]}" if places else "NUWATCH_DATA is not set"
    raise UsageError(
        f"data set {name!r}: {where}; hint: --data FOLDER, or NUWATCH_DATA, names the folder that holds {name}/"
    )
