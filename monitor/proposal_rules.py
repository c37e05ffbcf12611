"""The plain rules by which columns of a recording are taken for sensors, and settings follow from the sampling.

`nuwatch init` proposes by them, and the detection benchmark configures by them: what is measured is what users get.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from monitor.quantities import NS_PER_S, Duration
from monitor.settings import EventTime, Role

TIME_NAMES = re.compile(r"^(date_?time|time_?stamp|time|ts|date|t|zeit|zeitstempel)$", re.IGNORECASE)
LABEL_NAMES = re.compile(
    r"^(anomaly|anomalous|label|fault|change_?point|is_?anomaly|class|target)$", re.IGNORECASE
)
MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-"]
"""Cells that hold no value."""
TIME_FORMATS = (
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%Y-%m-%d",
    "%d.%m.%Y",
)

_SETPOINT = re.compile(r"(set_?point|sollwert|[._\- ]sp$|^sp[._\- ])", re.IGNORECASE)
_OUTPUT = re.compile(r"(valve|[._\- ](out|op|mv|co)$|^xmv)", re.IGNORECASE)
_HEAD_BYTES = 1 << 20
_MOST_STATES = 5
_LEAST_REPEATS = 10
"""A column of few whole numbers, each seen often, is taken for a state."""


def signs_of(text: bytes) -> tuple[str, Literal[".", ","]]:
    """Delimiter of a CSV text by its header line; the decimal sign by the lines below it."""
    lines = text[:_HEAD_BYTES].splitlines()
    header = lines[0] if lines else b""
    delimiter = max(",;\t|", key=lambda sign: header.count(sign.encode()))
    comma = delimiter != "," and bool(re.search(rb"\d,\d", b"\n".join(lines[1:20])))
    return delimiter, "," if comma else "."


def role_of(column: str, values: NDArray[np.float64]) -> Role:
    """What a column is to the process, by its name and its finite values [N]."""
    if _SETPOINT.search(column):
        return "setpoint"
    distinct = np.unique(values)
    few = len(distinct) <= min(_MOST_STATES, len(values) // _LEAST_REPEATS)
    if few and (distinct == np.round(distinct)).all():
        return "discrete"
    return "output" if _OUTPUT.search(column) else "pv"


def name_of(column: str, taken: Collection[str]) -> str:
    """Lower case, words joined by '_', and unlike those that are taken."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column.strip())
    plain = re.sub(r"\W+", "_", split).strip("_").lower() or "sensor"
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}_{number}", number + 1
    return name


def names_of(columns: Sequence[str]) -> tuple[str, ...]:
    """`name_of` of several columns, in order."""
    names: list[str] = []
    for column in columns:
        names.append(name_of(column, names))
    return tuple(names)


def window_length(rows: int, batch: int | None = None) -> int:
    """Samples of a window: 32, but at most a 16th of ``rows`` and a quarter of the shortest batch, at least 8.

    A longer window sees little more and costs more; and after every gap it takes longer until it is full again.
    """
    longest = rows // 16 if batch is None else min(rows // 16, batch // 4)
    return int(min(32, max(8, longest)))


def sampling_of(steps: NDArray[np.int64]) -> Duration | None:
    """Median of the positive steps between rows, ns, rounded to whole seconds or milliseconds; None without any."""
    steps = steps[steps > 0]
    if not len(steps):
        return None
    median = float(np.median(steps))
    unit = NS_PER_S if median >= NS_PER_S else 10**6
    return Duration(max(unit, round(median / unit) * unit) if median >= 10**6 else round(median))


def uneven(steps: NDArray[np.int64]) -> bool:
    """Whether a tenth of the positive steps between rows is far longer than their median."""
    steps = steps[steps > 0]
    return len(steps) > 0 and bool(np.quantile(steps, 0.9) > 1.5 * np.median(steps))


def event_time(sampling: Duration) -> EventTime:
    """How event time is treated where only the sampling is known."""
    return EventTime(
        lateness=sampling,
        max_age=Duration(5 * sampling),
        max_future=Duration(max(3600 * NS_PER_S, 10 * sampling)),
        silence=Duration(max(300 * NS_PER_S, 20 * sampling)),
    )
