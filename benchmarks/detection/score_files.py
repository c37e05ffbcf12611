"""Scores as CSV, one file per series, so that anybody can judge them with code of their own."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.detection.data import Series, Split
from benchmarks.detection.execute import Outcome
from monitor.errors import StateError
from monitor.quantities import iso_time

COLUMNS: Final = ("timestamp", "score", "label", "split", "alarm")


def write_scores(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Write ``SERIES.csv`` for every series: a row for each of its rows, in the order of the file it came from.

    The score is the final ratio (1.0 is the limit; 0 where there is none), the label empty where it is unknown.

    Raises:
        StateError: a file cannot be written.
    """
    for outcome in outcomes:
        path = folder / f"{outcome.series.name}.csv"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(COLUMNS)
                writer.writerows(_rows(outcome))
        except OSError as error:
            raise StateError(f"--scores: {path} cannot be written: {error}") from None


def _rows(outcome: Outcome) -> list[tuple[str, str, str, str, str]]:
    series = outcome.series
    stamps = _stamps(series)
    order = np.argsort(series.order, kind="stable") if len(series.order) else np.arange(len(series.time))
    return [
        (
            stamps[row],
            f"{outcome.score[row]:.9g}",
            "" if series.label[row] < 0 else str(int(series.label[row])),
            Split(int(series.split[row])).name.lower(),
            str(int(outcome.alarm[row])),
        )
        for row in order.tolist()
    ]


def _stamps(series: Series) -> Sequence[str]:
    return series.stamps or [iso_time(int(time)) for time in series.time]
