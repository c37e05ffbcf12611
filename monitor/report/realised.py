"""Asked and realised share of windows over the limit by asset, recipe and phase, as a section of a page."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.evaluation.realised import Realised
from monitor.report.markup import Markup, join, number, percent, tag
from monitor.report.page import table

_COLUMNS = (
    "of",
    "",
    "windows>",
    "over the limit>",
    "realised>",
    "asked (nu)>",
    "realised / asked>",
    "incidents>",
    "incidents per asset and week>",
)


def realised_section(rows: Sequence[Realised], basis: str) -> Markup:
    """The section; nothing without windows.

    Args:
        rows: what became of nu.
        basis: which windows they are of, in a sentence.
    """
    if not rows:
        return Markup("")
    cells = [
        (
            row.of,
            row.name,
            f"{row.windows:,}",
            f"{row.exceedances:,}",
            percent(row.realised),
            percent(row.asked),
            number(row.ratio),
            f"{row.incidents:,}",
            number(row.per_week),
        )
        for row in rows
    ]
    explained = (
        f"{basis} Incidents are ANOMALYs that began at one of these windows, per week of the windows' time."
    )
    return join(
        (
            tag("h2", "Asked and realised"),
            table(_COLUMNS, cells, totals=1),
            tag("p", explained, class_="muted"),
        )
    )
