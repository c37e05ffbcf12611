"""Scorers by name, each imported only when it is asked for.

Installed packages add theirs by an entry point of the group ``nuwatch.scorers``: its name is the scorer's, its object
a `Scorer`. A built-in name cannot be taken.
"""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points

from models.scorer import Scorer

_BUILT_IN = {
    "anogan": "models.anogan",
    "autoencoder_ocsvm": "models.autoencoder_ocsvm",
    "conv_autoencoder": "models.conv_autoencoder",
    "deep_svdd": "models.deep_svdd",
    "denoising_autoencoder": "models.denoising_autoencoder",
    "dense_autoencoder": "models.dense_autoencoder",
    "ganomaly": "models.ganomaly",
    "isolation_forest": "models.isolation_forest",
    "kde": "models.kde",
    "lstm_autoencoder": "models.lstm_autoencoder",
    "mewma": "models.mewma",
    "ocnn": "models.ocnn",
    "ocsvm": "models.ocsvm",
    "pca": "models.pca",
    "robust_autoencoder": "models.robust_autoencoder",
    "var": "models.var",
    "variational_autoencoder": "models.variational_autoencoder",
}
GROUP = "nuwatch.scorers"
"""The entry point group of scorers in other packages."""
_FOR_COMPARISON = ("lstm_autoencoder", "mewma", "ocnn", "pca", "var")
"""Built-in scorers that `scorers: auto` compares unless told otherwise: each more makes every training longer."""
_registered: dict[str, Scorer] = {}
_unlisted: set[str] = set()


class UnknownScorerError(KeyError):
    """No scorer has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"scorer: got {self.name!r}, expected one of {', '.join(scorer_names())}"


class BrokenScorerError(ValueError):
    """An installed package promises a scorer that cannot be had."""


def scorer_names() -> tuple[str, ...]:
    """Names of all scorers, built-in, registered and of installed packages, sorted."""
    installed = {point.name for point in _installed()}
    return tuple(sorted((_BUILT_IN.keys() | _registered.keys() | installed) - _unlisted))


def built_in_names() -> tuple[str, ...]:
    """Names of nuwatch's own scorers, sorted."""
    return tuple(sorted(_BUILT_IN))


def candidate_names() -> tuple[str, ...]:
    """Names that `scorers: auto` compares by default: some built-in ones, and all that were added; sorted."""
    added = set(scorer_names()) - _BUILT_IN.keys()
    return tuple(sorted(added.union(_FOR_COMPARISON)))


def get_scorer(name: str) -> Scorer:
    """The scorer of a name.

    Raises:
        UnknownScorerError: there is none.
        BrokenScorerError: an installed package promises it, and does not keep its word.
    """
    if name in _BUILT_IN:
        return importlib.import_module(_BUILT_IN[name]).SCORER
    if name not in _registered:
        points = [point for point in _installed() if point.name == name]
        if not points:
            raise UnknownScorerError(name)
        _registered[name] = _loaded(points)
    return _registered[name]


def register(scorer: Scorer, *, listed: bool = True) -> None:
    """Add a scorer of this process under its own name.

    Args:
        scorer: the scorer.
        listed: whether `scorer_names` names it; a benchmark's baselines are none to choose from.

    Raises:
        ValueError: the name is taken by another scorer.
    """
    taken = scorer.name in _BUILT_IN or _registered.get(scorer.name, scorer) is not scorer
    if taken:
        raise ValueError(f"scorer: the name {scorer.name!r} is taken; hint: give yours another name")
    _registered[scorer.name] = scorer
    if not listed:
        _unlisted.add(scorer.name)


def _installed() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _loaded(points: list[EntryPoint]) -> Scorer:
    """The object behind the entry points of one name."""
    point = points[0]
    where = f"scorer {point.name!r}, entry point {point.value!r} of {_package(point)}"
    if any(other.value != point.value for other in points[1:]):
        raise BrokenScorerError(
            f"{where}: {_package(points[1])} has one of the same name; hint: uninstall one"
        )
    try:
        scorer = point.load()
    except Exception as error:  # whatever a foreign module raises while it is imported
        raise BrokenScorerError(f"{where}: cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(scorer, Scorer):
        raise BrokenScorerError(f"{where}: got {type(scorer).__name__}, expected a models.scorer.Scorer")
    if scorer.name != point.name:
        raise BrokenScorerError(f"{where}: the scorer calls itself {scorer.name!r}; hint: give both one name")
    return scorer


def _package(point: EntryPoint) -> str:
    return "an installed package" if point.dist is None else point.dist.name
