"""What is told while training."""

from __future__ import annotations

from collections.abc import Mapping


class TrainingProgress:
    """What is told while training; the default tells nothing."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        """Progress within the stage."""


class FoldProgress(TrainingProgress):
    """The progress of one fold's fit: its stages carry the fold's number."""

    def __init__(self, told: TrainingProgress, fold: int, folds: int) -> None:
        self._told = told
        self._fold = f"fold {fold + 1}/{folds}: "

    def stage(self, name: str) -> None:
        """See `TrainingProgress`."""
        self._told.stage(self._fold + name.removeprefix("fitting "))

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        """See `TrainingProgress`."""
        self._told.step(done, total, values)
