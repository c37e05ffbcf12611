"""Figures as tables for a terminal; names that come from messages are shown as they are, never as markup."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from monitor.evaluation.comparison import Comparison, Outcome
from monitor.evaluation.figures import Detection, Evaluation, Figures, Rate
from monitor.report.markup import duration, number, percent, whole

MOST_ASSETS = 5
"""More assets get no columns: in a terminal of 80 characters none could be read. The JSON and the page have them."""


def text_table(evaluation: Evaluation) -> RenderableType:
    """The figures, pooled and by asset; the labelled faults; what cannot be said."""
    parts: list[RenderableType] = [_figures_table(evaluation)]
    if evaluation.detections:
        parts.append(_detections_table(evaluation))
    parts += [Text(f"note: {note}", style="yellow") for note in evaluation.notes]
    return Group(*parts)


def comparison_table(comparison: Comparison) -> RenderableType:
    """Planted against found, the sum of it, and the false incidents."""
    table = _table(
        "Planted and found", ("asset", "planted", "from", "found", "after", "as", "sensor"), numbers=(4,)
    )
    for outcome in comparison.outcomes:
        _row(table, outcome.asset, outcome.name, outcome.start, _verdict(outcome), *_finding(outcome))
    false = [
        Text(f"false incident: {f.raised} {f.asset} {f.kind} {f.subject} {f.message}", style="red")
        for f in comparison.false_incidents
    ]
    return Group(table, Text(_summary(comparison), style="bold"), *false)


def _summary(comparison: Comparison) -> str:
    told = [
        f"{comparison.found} of {comparison.faults} faults found",
        f"median delay {duration(comparison.median_delay_s)}",
        f"{len(comparison.false_incidents)} false incidents",
    ]
    if comparison.benign:
        told.append(f"{comparison.disturbed} of {comparison.benign} benign changes raised something")
    return ", ".join(told)


def _verdict(outcome: Outcome) -> Text:
    if outcome.benign:
        return (
            Text("disturbed", style="red") if outcome.found else Text("quiet, as it should be", style="green")
        )
    if outcome.found:
        return Text("found", style="green")
    return Text("an incident was open" if outcome.open_before else "missed", style="red")


def _finding(outcome: Outcome) -> tuple[str, str, str]:
    if not outcome.found:
        return "", "", ""
    return duration(outcome.delay_s), outcome.kind, outcome.subject or outcome.sensor


def _figures_table(evaluation: Evaluation) -> Table:
    assets = len(evaluation.assets)
    names = list(evaluation.assets) if 1 < assets <= MOST_ASSETS else []
    columns = {"pooled": evaluation.pooled} | {name: evaluation.assets[name] for name in names}
    table = _table(evaluation.asset_class, ("", *columns), numbers=tuple(range(1, len(columns) + 1)))
    for name, figure in _FIGURES:
        _row(table, name, *(figure(figures) for figures in columns.values()))
    if assets > MOST_ASSETS:
        table.caption = f"{assets} assets: each in the JSON and on the page"
    return table


def _interval(rate: Rate) -> str:
    return "\u2014" if rate.low is None else f"{percent(rate.low)} to {percent(rate.high)}"


def _faults(figures: Figures, count: Callable[[Figures], int]) -> str:
    return "\u2014" if figures.delays is None else f"{count(figures)} of {figures.delays.faults}"


_FIGURES: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("windows", lambda f: f"{f.windows:,}"),
    ("scored", lambda f: percent(f.share_scored)),
    ("precision", lambda f: number(f.precision)),
    ("recall", lambda f: number(f.recall)),
    ("F1", lambda f: number(f.f1)),
    ("false-alarm rate", lambda f: percent(f.false_alarm_rate)),
    ("missed-alarm rate", lambda f: percent(f.missed_alarm_rate)),
    ("ROC-AUC", lambda f: number(f.ranking.roc_auc)),
    ("PR-AUC", lambda f: number(f.ranking.pr_auc)),
    ("PR-AUC of chance", lambda f: number(f.ranking.anomalous_share)),
    ("nu asked", lambda f: percent(f.rate.asked)),
    ("nu realised", lambda f: percent(f.rate.realised)),
    ("  of windows", lambda f: f.rate.basis),
    ("  95 % interval", lambda f: _interval(f.rate)),
    ("  tau of exceedances", lambda f: number(f.rate.tau)),
    ("incidents", lambda f: str(sum(f.incidents.by_kind.values()))),
    ("anomalies per asset day", lambda f: number(f.incidents.anomalies_per_day)),
    ("false incidents", lambda f: whole(f.incidents.false)),
    ("false incidents per week", lambda f: number(f.incidents.false_per_week)),
    ("faults found", lambda f: _faults(f, lambda g: g.delays.detected if g.delays else 0)),
    ("faults with an incident", lambda f: _faults(f, lambda g: g.delays.raised if g.delays else 0)),
    ("median delay", lambda f: duration(f.delays.median_first_s if f.delays else None)),
    ("smallest |ratio - 1|", lambda f: number(f.decisive_ratio, 2)),
)


def _detections_table(evaluation: Evaluation) -> Table:
    columns = ("asset", "label", "from (UTC)", "first over", "third", "incident")
    table = _table("Labelled faults: time until the limit is exceeded", columns, numbers=(3, 4, 5))
    table.columns[2].no_wrap = True
    for seen in evaluation.detections:
        name = f"{seen.name} (over before)" if seen.over_before else seen.name
        start = seen.start.replace("T", " ")[:16]
        _row(table, seen.asset, name, start, _first(seen), *_later(seen))
    return table


def _first(seen: Detection) -> Text:
    if seen.first_delay_s is None:
        return Text("not found", style="red")
    return Text(duration(seen.first_delay_s))


def _later(seen: Detection) -> tuple[str, str]:
    """Third of three in a row, and the incident."""
    return duration(seen.third_delay_s), duration(seen.incident_delay_s)


def _table(title: str, columns: tuple[str, ...], numbers: tuple[int, ...]) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for k, name in enumerate(columns):
        table.add_column(Text(name), justify="right" if k in numbers else "left")
    return table


def _row(table: Table, *cells: str | Text) -> None:
    table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
