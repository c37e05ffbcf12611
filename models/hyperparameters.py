"""What may be set of a scorer: every field of its spec with its type, its range, and where a search looks.

A field of a spec says so in its type::

    learning_rate: Annotated[float, Meta(gt=0, le=1), Searched(3e-4, 3e-2)] = 0.003

`msgspec.Meta` is the range that is accepted at all; `Searched` the narrower one in which a search draws, evenly in the
logarithm unless it is linear (Bergstra & Bengio 2012, Random Search for Hyper-Parameter Optimization, JMLR 13:281). A
field without `Searched` keeps its default in a search: what only costs time, or what decides what is meant by normal.
A field without any of them, as in a scorer of another package, takes every value of its default's type.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Annotated, Any, NamedTuple

import numpy as np
from msgspec import Meta

_DIGITS = 2
"""Significant digits of what is drawn: more would promise what no search finds."""


class Searched(NamedTuple):
    """Where a search looks, both ends included; evenly in the logarithm, or on the straight scale if ``linear``."""

    low: float
    high: float
    linear: bool = False


Count = Annotated[int, Meta(ge=1)]
"""At least one of something."""
Amount = Annotated[float, Meta(ge=0.0)]
"""A weight or a penalty; 0 switches it off."""
Share = Annotated[float, Meta(gt=0.0, lt=1.0)]
"""A share that is neither nothing nor all."""
Rate = Annotated[float, Meta(gt=0.0, le=1.0), Searched(3e-4, 1e-2)]
"""An optimiser's learning rate."""
Lags = Annotated[int, Meta(ge=0), Searched(0, 4, linear=True)]
"""Samples before the last that are judged with it."""


class Hyperparameter(NamedTuple):
    """One field of a spec.

    Attributes:
        name: of the field.
        default: its default.
        limits: what is accepted; None: any value of the default's type.
        options: the values that a text may have; empty for all other types.
        searched: where a search looks; None: nowhere.
    """

    name: str
    default: Any
    limits: Meta | None = None
    options: tuple[Any, ...] = ()
    searched: Searched | None = None

    @property
    def range(self) -> str:
        """What is accepted, in words; empty where that is every value."""
        if self.options:
            return f"one of {', '.join(map(str, self.options))}"
        if self.limits is None:
            return ""
        parts = [
            f"{word} {bound:g}"
            for word, bound in (
                ("at least", self.limits.ge),
                ("more than", self.limits.gt),
                ("at most", self.limits.le),
                ("less than", self.limits.lt),
            )
            if bound is not None
        ]
        return ", ".join(parts)

    def accepts(self, value: Any) -> bool:
        """Whether a value of the right type is within the range."""
        if self.options:
            return value in self.options
        limits = self.limits or Meta()
        return (
            (limits.ge is None or value >= limits.ge)
            and (limits.gt is None or value > limits.gt)
            and (limits.le is None or value <= limits.le)
            and (limits.lt is None or value < limits.lt)
        )


def hyperparameters(spec: type[Any]) -> tuple[Hyperparameter, ...]:
    """Every field of a spec, in its order.

    Args:
        spec: a frozen dataclass whose every field has a default.
    """
    hints = _hints(spec)
    return tuple(
        _hyperparameter(one.name, one.default, hints.get(one.name)) for one in dataclasses.fields(spec)
    )


def draw(spec: type[Any], rng: np.random.Generator) -> dict[str, Any]:
    """A value by chance of every field that is searched, by the field's name."""
    return {
        one.name: _drawn(one.searched, isinstance(one.default, int), rng)
        for one in hyperparameters(spec)
        if one.searched is not None
    }


def _hints(spec: type[Any]) -> dict[str, Any]:
    """Types with what they are annotated with; none of a foreign spec whose names cannot be resolved here."""
    try:
        return typing.get_type_hints(spec, include_extras=True)
    except NameError:
        return {}


def _hyperparameter(name: str, default: Any, hint: Any) -> Hyperparameter:
    extras = getattr(hint, "__metadata__", ())
    bare = typing.get_args(hint)[0] if extras else hint
    options = typing.get_args(bare) if typing.get_origin(bare) is typing.Literal else ()
    # the last one counts: a field narrows the type that it is made of
    limits = [one for one in extras if isinstance(one, Meta)]
    searched = [one for one in extras if isinstance(one, Searched)]
    return Hyperparameter(
        name, default, limits[-1] if limits else None, options, searched[-1] if searched else None
    )


def _drawn(where: Searched, whole: bool, rng: np.random.Generator) -> Any:
    low, high = (where.low, where.high) if where.linear else (np.log(where.low), np.log(where.high))
    if whole and where.linear:
        return int(rng.integers(round(low), round(high) + 1))
    at = float(rng.uniform(low, high))
    value = at if where.linear else float(np.exp(at))
    return round(value) if whole else float(f"{value:.{_DIGITS}g}")
