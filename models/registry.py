"""Scorers by name, each imported only when it is asked for."""

from __future__ import annotations

import importlib

from models.scorer import Scorer

_BUILT_IN = {
    "lstm_autoencoder": "models.lstm_autoencoder",
    "ocnn": "models.ocnn",
    "pca": "models.pca",
    "var": "models.var",
}
_registered: dict[str, Scorer] = {}


class UnknownScorerError(KeyError):
    """No scorer has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"scorer: got {self.name!r}, expected one of {', '.join(scorer_names())}"


def scorer_names() -> tuple[str, ...]:
    """Names of all scorers, built-in and registered, sorted."""
    return tuple(sorted(_BUILT_IN.keys() | _registered.keys()))


def get_scorer(name: str) -> Scorer:
    """The scorer of a name.

    Raises:
        UnknownScorerError: there is none.
    """
    if name in _registered:
        return _registered[name]
    if name not in _BUILT_IN:
        raise UnknownScorerError(name)
    return importlib.import_module(_BUILT_IN[name]).SCORER


def register(scorer: Scorer) -> None:
    """Add a scorer under its own name, for the callers that read the entry point group ``nuwatch.scorers``.

    Raises:
        ValueError: the name is taken by another scorer.
    """
    taken = scorer.name in _BUILT_IN or _registered.get(scorer.name, scorer) is not scorer
    if taken:
        raise ValueError(f"scorer: the name {scorer.name!r} is taken; hint: give yours another name")
    _registered[scorer.name] = scorer
