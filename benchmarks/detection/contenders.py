"""Who is compared: the default configuration, every scorer alone, and the baselines; all on the same path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from benchmarks.detection.baselines import register_baselines
from models.registry import built_in_names, scorer_names
from monitor.errors import UsageError

DEFAULT: Final = "default"
ALWAYS: Final = "always_fire"
"""An alarm on every row. No scorer can be it: a limit is a quantile of its own scores."""
_FIXED: Final = frozenset({"kde", "mewma", "ocsvm", "pca", "var"})
"""Built-in scorers in whose training nothing is random."""
_FIXED_BASELINES: Final = frozenset({"dynamic_pca"})


class Contender(NamedTuple):
    """One row of every table.

    Attributes:
        name: in tables.
        scorers: options by scorer; empty: the default's.
        seeded: its training depends on a seed; else its spread is bootstrapped over the series.
    """

    name: str
    scorers: dict[str, dict[str, Any]]
    seeded: bool


def own_names() -> frozenset[str]:
    """Names of the scorers whose code is nuwatch's."""
    return frozenset((*built_in_names(), *register_baselines()))


def contenders(only: Sequence[str] = ()) -> tuple[Contender, ...]:
    """All contenders, or those of these names, in the order of the tables.

    Raises:
        UsageError: a name is none of them.
    """
    baselines = register_baselines()
    built_in = built_in_names()
    installed = [name for name in scorer_names() if name not in built_in]
    found = [Contender(DEFAULT, {}, True)]
    found += [Contender(name, {name: {}}, name not in _FIXED) for name in built_in]
    found += [Contender(name, {name: {}}, True) for name in installed]
    found += [Contender(name, {name: {}}, name not in _FIXED_BASELINES) for name in baselines]
    found.append(Contender(ALWAYS, {}, False))
    if not only:
        return tuple(found)
    unknown = [name for name in only if name not in {one.name for one in found}]
    if unknown:
        known = ", ".join(one.name for one in found)
        raise UsageError(f"--scorer: got {unknown[0]!r}, expected one of {known}")
    return tuple(one for one in found if one.name in only)
