"""Operators' verdicts on stretches of time: something was real, or the alarm was false.

A file like one of labels (`monitor.evaluation.labels`): asset, start, end, and as label 'real' or 'false'.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from connectors.records import TimeLayout
from monitor.evaluation.labels import EVERY_ASSET, LabelsError, read
from monitor.quantities import iso_time

REAL, FALSE = "real", "false"


class Verdict(NamedTuple):
    """One verdict; both ends included, in ns since the epoch."""

    asset: str
    start_ns: int
    end_ns: int
    real: bool

    @property
    def text(self) -> str:
        """For people."""
        kind = REAL if self.real else FALSE
        return f"{kind} {self.asset} {iso_time(self.start_ns)} to {iso_time(self.end_ns)}"


def read_verdicts(path: Path, times: TimeLayout | None = None) -> list[Verdict]:
    """Read verdicts from a CSV, YAML or JSON file, in order of asset and time.

    Args:
        path: the file.
        times: the unit of integer times and the zone of times without an offset.

    Raises:
        LabelsError: the file cannot be read, or a row is no verdict.
    """
    labels = read(path, times)
    found: list[Verdict] = []
    for asset, intervals in labels.faults.items():
        for one in intervals:
            if one.name not in (REAL, FALSE):
                raise LabelsError(
                    f"verdicts {path}: {asset} from {one.start_time}: got the label {one.name!r}, expected {REAL!r} or "
                    f"{FALSE!r}"
                )
            if asset == EVERY_ASSET:
                raise LabelsError(f"verdicts {path}: got every asset ({EVERY_ASSET}), expected one")
            found.append(Verdict(asset, one.start_ns, one.end_ns, one.name == REAL))
    found.sort()
    _refuse_contradictions(path, found)
    return found


def _refuse_contradictions(path: Path, verdicts: list[Verdict]) -> None:
    """Refuse a time of an asset that is called both; verdicts are in order.

    Raises:
        LabelsError: there is one.
    """
    latest: dict[tuple[str, bool], Verdict] = {}
    for one in verdicts:
        other = latest.get((one.asset, not one.real))
        if other is not None and one.start_ns <= other.end_ns:
            raise LabelsError(f"verdicts {path}: {other.text} and {one.text}: expected one word for a time")
        mine = latest.get((one.asset, one.real))
        if mine is None or one.end_ns > mine.end_ns:
            latest[one.asset, one.real] = one


def held_out(verdicts: list[Verdict], share: float, seed: int) -> tuple[list[Verdict], list[Verdict]]:
    """Verdicts to learn from, and those kept to judge: of each kind a share, rounded, drawn by chance.

    Of a kind with one verdict none is kept: there would be nothing to learn of it.
    """
    rng = np.random.default_rng(seed)
    kept: set[Verdict] = set()
    for real in (True, False):
        mine = [one for one in verdicts if one.real is real]
        count = min(round(share * len(mine)), max(len(mine) - 1, 0))
        kept |= {mine[int(place)] for place in rng.permutation(len(mine))[:count]}
    return [one for one in verdicts if one not in kept], [one for one in verdicts if one in kept]
