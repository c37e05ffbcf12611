"""Asked and realised share of windows over the limit, and incidents per week, by asset, recipe and phase.

Pure: the windows are those of which nu promises something, normal as far as anyone knows. Shape letter: W windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from connectors.records import Context
from monitor.quantities import NS_PER_S

_NS_PER_WEEK = 7 * 86_400 * NS_PER_S


class Realised(Struct, frozen=True, kw_only=True):
    """What became of nu in some windows.

    Attributes:
        of: 'all', 'asset', 'recipe' or 'phase'.
        name: of it; of a phase with its recipe, as 'recipe / phase'.
        windows: that count.
        exceedances: of them, over the limit.
        realised: exceedances / windows.
        asked: nu.
        ratio: realised / asked.
        incidents: ANOMALY incidents that began at one of these windows.
        per_week: of them, per asset and week of these windows' time.
    """

    of: str
    name: str
    windows: int
    exceedances: int
    realised: float
    asked: float
    ratio: float
    incidents: int
    per_week: float


class Counted(NamedTuple):
    """The windows that count.

    Attributes:
        assets: names that ``asset`` points to.
        asset: [W].
        contexts: that ``context`` points to.
        context: [W].
        over: [W] bool, over the limit.
        began: [W] bool, an ANOMALY incident began.
        period: [W] int64, the time that a window stands for, in ns.
    """

    assets: Sequence[str]
    asset: NDArray[np.integer]
    contexts: Sequence[Context]
    context: NDArray[np.integer]
    over: NDArray[np.bool_]
    began: NDArray[np.bool_]
    period: NDArray[np.int64]


def realised(counted: Counted, asked: float) -> tuple[Realised, ...]:
    """All windows; those of each asset, each recipe and each phase that has any, in order of their names.

    Args:
        counted: the windows.
        asked: nu.
    """
    if not len(counted.over):
        return ()
    return tuple(
        _realised(counted, asked, of, name, np.flatnonzero(mine)) for of, name, mine in _parts(counted)
    )


def _parts(counted: Counted) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    yield "all", "", np.ones(len(counted.over), np.bool_)
    for of, names, number in (
        ("asset", list(counted.assets), counted.asset),
        ("recipe", [_recipe(c) for c in counted.contexts], counted.context),
        ("phase", [_phase(c) for c in counted.contexts], counted.context),
    ):
        named = np.array(names, object)[number]
        yield from ((of, name, named == name) for name in sorted(set(named.tolist()) - {""}))


def _recipe(context: Context) -> str:
    return context.recipe or ""


def _phase(context: Context) -> str:
    return " / ".join(filter(None, (context.recipe, context.phase))) if context.phase else ""


def _realised(counted: Counted, asked: float, of: str, name: str, at: NDArray[np.int64]) -> Realised:
    exceedances = int(np.count_nonzero(counted.over[at]))
    incidents = int(np.count_nonzero(counted.began[at]))
    rate, weeks = exceedances / len(at), int(counted.period[at].sum()) / _NS_PER_WEEK
    return Realised(
        of=of,
        name=name,
        windows=len(at),
        exceedances=exceedances,
        realised=rate,
        asked=asked,
        ratio=rate / asked,
        incidents=incidents,
        per_week=incidents / weeks if weeks else 0.0,
    )
