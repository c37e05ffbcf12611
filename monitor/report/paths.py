"""SVG path data from columns: x is the column's number, y is in pixels, one decimal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.report.columns import flag_runs

Pixels = NDArray[np.float64]


def line(y: Pixels, x: Pixels | None = None) -> str:
    """A line through finite points [C], broken where they are not finite; a lone point is a dot."""
    return "".join(
        f"M{_at(x, first)} {_n(y[first])}"
        + ("".join(f"L{_at(x, i)} {_n(y[i])}" for i in range(first + 1, last + 1)) or "h0")
        for first, last in flag_runs(np.isfinite(y))
    )


def envelope(top: Pixels, bottom: Pixels) -> str:
    """A line that fills each column [C] from its bottom to its top, broken where there is nothing."""
    parts = list[str]()
    for first, last in flag_runs(np.isfinite(top) & np.isfinite(bottom)):
        for i in range(first, last + 1):
            up, down = _n(top[i]), _n(bottom[i])
            parts.append(f"{'M' if i == first else 'L'}{i} {up}" + ("" if up == down else f"V{down}"))
        if first == last:
            parts.append("h0")
    return "".join(parts)


def area(top: Pixels, bottom: Pixels) -> str:
    """A closed area between two lines [C], one piece per finite run."""
    parts = list[str]()
    for first, last in flag_runs(np.isfinite(top) & np.isfinite(bottom)):
        there = [f"{i} {_n(top[i])}" for i in range(first, last + 1)]
        back = [f"{i} {_n(bottom[i])}" for i in range(last, first - 1, -1)]
        parts.append("M" + "L".join(there + back) + "Z")
    return "".join(parts)


def _at(x: Pixels | None, i: int) -> str:
    return str(i) if x is None else _n(x[i])


def _n(value: float) -> str:
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text
