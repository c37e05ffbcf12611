"""What of a history was left out as unlike the rest of it, as a section of the training's page and as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from monitor.report.markup import Markup, join, number, percent, tag
from monitor.report.page import table

if TYPE_CHECKING:  # training imports JAX, which a page needs not
    from monitor.training.trimming import Trimming

_SHOWN = 20
_HOW = (
    "Judged before anything was fitted: smoothed distances from the bulk of the rows, beyond five spreads of their "
    "logarithm. The share is a lower bound: what hides among normal rows is not seen. If any of it was normal "
    "operation, set scoring.trim to 0 and train again."
)


def trimming_section(trimming: Trimming | None) -> Markup:
    """The section; nothing where nothing may be left out."""
    if trimming is None:
        return Markup("")
    columns = ("asset", "from", "to", "rows>", "distance / limit>", "sensor", "sigma>")
    rows = [
        (one.asset, one.start, one.end, f"{one.rows:,}", number(one.score), one.sensor, f"{one.sigma:+.1f}")
        for one in trimming.stretches
    ]
    return join(
        (
            tag("h2", "Left out"),
            tag("p", f"{_summary(trimming)}."),
            table(columns, rows) if rows else None,
            tag("p", _HOW, class_="muted"),
        )
    )


def trimming_text(trimming: Trimming) -> Iterator[str]:
    """The same for a terminal, line by line."""
    yield _summary(trimming)
    for one in trimming.stretches[:_SHOWN]:
        yield f"  {one.asset} {one.start} to {one.end}, {one.rows} rows: {one.reason}"
    if len(trimming.stretches) > _SHOWN:
        yield f"  and {len(trimming.stretches) - _SHOWN} more, on the page of --report"


def _summary(trimming: Trimming) -> str:
    found = percent(trimming.contamination).replace("\u00a0", " ")
    return (
        f"{found} of the history is unlike the rest of it; {trimming.left_out:,} of {trimming.rows:,} rows were left "
        f"out, in {len(trimming.stretches)} stretches"
    )
