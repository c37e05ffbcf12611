"""Training as progress bars: one per stage."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from monitor.training import TrainingProgress


class Bars(TrainingProgress):
    """Stages and epochs as bars of ``progress``."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def stage(self, name: str) -> None:
        """End the bar before, and begin one."""
        if self._task is not None:
            self._progress.update(self._task, total=1, completed=1)
        self._task = self._progress.add_task(name, total=None, figures="")

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        """Move the bar."""
        figures = "  ".join(f"{name} {value:.2g}" for name, value in values.items())
        if self._task is not None:
            self._progress.update(self._task, total=total, completed=done, figures=figures)

    def finish(self) -> None:
        """End the last bar."""
        if self._task is not None:
            self._progress.update(self._task, total=1, completed=1)


def bars(console: Console) -> Progress:
    """Bars that fit into 80 columns."""
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=12),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
    )
