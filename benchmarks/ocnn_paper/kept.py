"""Results on disk, one line of JSON each, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Result(NamedTuple):
    """One figure.

    Attributes:
        experiment: ``mnist`` or ``synthetic``.
        protocol: how it was trained and judged.
        method: what judged.
        normal: the digit that is normal; 0 where there are no digits.
        seed: of the draws.
        auc: area under the ROC.
        seconds: that training and judging took, of this one's share where several were trained at once.
    """

    experiment: str
    protocol: str
    method: str
    normal: int
    seed: int
    auc: float
    seconds: float

    @property
    def name(self) -> tuple[str, str, str, int, int]:
        """What the figure is of."""
        return self[:5]


class Kept:
    """Results of a folder."""

    def __init__(self, folder: Path) -> None:
        self._file, self._lock = folder / "results.jsonl", threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._known = {result.name: result for result in self._read()}

    def _read(self) -> Iterator[Result]:
        if self._file.exists():
            for line in self._file.read_text().splitlines():
                try:
                    yield Result(**json.loads(line))
                except (json.JSONDecodeError, TypeError):
                    continue  # half a line of a run that was killed

    def __contains__(self, name: tuple[str, str, str, int, int]) -> bool:
        return name in self._known

    def put(self, results: Iterable[Result]) -> None:
        """Keep results, on disk before this returns; from any thread."""
        fresh = list(results)
        with self._lock:
            with self._file.open("a") as file:
                file.writelines(json.dumps(result._asdict()) + "\n" for result in fresh)
            self._known |= {result.name: result for result in fresh}

    def all(self) -> list[Result]:
        """Everything that is known."""
        return list(self._known.values())
