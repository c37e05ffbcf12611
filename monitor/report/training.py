"""The page of a training: what was learnt, from how much, and how far its threshold can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.evaluation.realised import Realised
from monitor.quantities import iso_time
from monitor.report.budget import budget_section
from monitor.report.charts import Group, histogram, training_curve
from monitor.report.choice import choice_section
from monitor.report.embedding import embedding_section
from monitor.report.markup import Markup, duration, join, number, percent, tag
from monitor.report.page import facts, notes, page, table, tiles
from monitor.report.realised import realised_section
from monitor.report.trimming import trimming_section
from monitor.thresholds.threshold import Estimate

if TYPE_CHECKING:  # training imports JAX, which a page needs not
    from monitor.training.budget import Budget
    from monitor.training.choice import Choice
    from monitor.training.embedding import Embedding
    from monitor.training.trimming import Trimming

_COUNTS = {
    "slots": "samples on the grid",
    "slots_fit": "of them, samples that fit the models",
    "folds": "contiguous folds, each scored by models fitted without it",
    "windows_folds": "windows that set scales and limit, out of fold",
    "windows_scale": "windows that set each scorer's scale",
    "windows_limit": "windows that set the limit",
}


_HELD_OUT = (
    "Of the held-out windows that set the limit: together they realise what is asked by construction (less where the "
    "limit is extrapolated), and an asset, recipe or phase far from it has a normal of its own."
)


class SensorRow(NamedTuple):
    """What was learnt of one sensor, in its unit; None where there is nothing to say.

    Attributes:
        name: of the sensor.
        unit: UCUM code.
        role: as configured.
        mean: of normal.
        sigma: standard deviation of normal.
        low: lower end of the engineering range.
        high: upper end of it.
        stuck_s: no movement for longer than this is a fault, in seconds.
    """

    name: str
    unit: str
    role: str
    mean: float | None
    sigma: float | None
    low: float | None = None
    high: float | None = None
    stuck_s: float | None = None


@dataclass(frozen=True)
class TrainingMeta:
    """What a training report tells.

    Attributes:
        title: of the page.
        estimate: of the limit of the combined, smoothed ratio.
        facts: names and values shown at the top, in order (bundle, history, versions, ...).
        scorer_estimates: of each scorer's own limit, by name.
        curves: per scorer, values by epoch by the curve's name; empty for a scorer fitted in one go.
        counts: sample sizes by name, in order (slots and windows of each part, what was left out).
        limit_ratios: [n] calibration ratios, for the histogram.
        sensors: in the order of the model's columns.
        warnings: what a person should know.
        choice: with `scorers: auto`, what was chosen and why.
        budget: what came of a budget in incidents; None without one.
        realised: what became of nu in the windows that set the limit, by asset, recipe and phase.
        trimming: what of the history was left out as unlike the rest; None where nothing may be.
        embedding: windows as the scorers see them; None where they are too few.
    """

    title: str
    estimate: Estimate
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    scorer_estimates: Mapping[str, Estimate] = field(default_factory=dict[str, Estimate])
    curves: Mapping[str, Mapping[str, Sequence[float]]] = field(
        default_factory=dict[str, Mapping[str, Sequence[float]]]
    )
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    limit_ratios: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    sensors: Sequence[SensorRow] = ()
    warnings: Sequence[str] = ()
    choice: Choice | None = None
    budget: Budget | None = None
    realised: Sequence[Realised] = ()
    trimming: Trimming | None = None
    embedding: Embedding | None = None


def training_report(meta: TrainingMeta) -> str:
    """One self-contained HTML page about a training."""
    return page(
        meta.title,
        tag("h1", meta.title, " ", _badge(meta.estimate)),
        facts(meta.facts),
        _verdict(meta.estimate) if meta.budget is None or meta.budget.supported else None,
        notes(meta.warnings),
        tag("h2", "The limit"),
        tiles(_headline(meta.estimate)),
        _limits(meta),
        tag(
            "div",
            histogram("Held-out normal ratios", [Group("normal", "held out", meta.limit_ratios)]),
            class_="charts",
        ),
        budget_section(meta.budget),
        realised_section(meta.realised, _HELD_OUT),
        trimming_section(meta.trimming),
        choice_section(meta.choice),
        _curves(meta),
        embedding_section(meta.embedding),
        _samples(meta),
        _sensors(meta),
    )


def _badge(estimate: Estimate) -> Markup:
    return tag("span", estimate.label, class_=f"badge {'good' if estimate.enough else 'bad'}")


def _verdict(estimate: Estimate) -> Markup:
    worth = f"{estimate.n:,} held-out scores are worth {number(estimate.n_eff)} independent ones"
    if estimate.enough:
        return tag("p", f"{worth}: enough for nu = {estimate.nu:g}.")
    missing = (
        f"{worth}: too few for nu = {estimate.nu:g}. Missing are about {estimate.missing:,} more scores "
        "of normal operation, at the autocorrelation seen. Until then the false-alarm rate is a guess."
    )
    if estimate.extrapolated:
        missing += " The limit lies beyond what these scores resolve: it is EXTRAPOLATED along their tail."
    return tag("p", missing, class_="note")


def _headline(estimate: Estimate) -> list[tuple[str, str]]:
    return [
        ("asked share of normal windows over the limit (nu)", percent(estimate.nu)),
        ("limit", number(estimate.threshold, 4)),
        ("95 % interval of the limit", f"{number(estimate.low, 4)} to {number(estimate.high, 4)}"),
        ("scores", f"{estimate.n:,}"),
        ("independent scores (n / tau)", number(estimate.n_eff)),
        ("autocorrelation time tau, in windows", number(estimate.tau)),
        ("smallest p-value", number(estimate.smallest_p, 2)),
    ]


def _limits(meta: TrainingMeta) -> Markup:
    columns = (
        "limit of",
        "",
        "median>",
        "limit>",
        "95 % interval>",
        "scores>",
        "n / tau>",
        "tau>",
        "from",
        "to",
    )
    rows = [_limit_row("all, combined and smoothed", meta.estimate)]
    rows += [_limit_row(name, estimate) for name, estimate in meta.scorer_estimates.items()]
    return table(columns, rows, totals=1)


def _limit_row(name: str, estimate: Estimate) -> tuple[object, ...]:
    return (
        name,
        _badge(estimate),
        number(estimate.median, 4),
        number(estimate.threshold, 4),
        f"{number(estimate.low, 4)} to {number(estimate.high, 4)}",
        f"{estimate.n:,}",
        number(estimate.n_eff),
        number(estimate.tau),
        iso_time(estimate.start_ns),
        iso_time(estimate.end_ns),
    )


def _curves(meta: TrainingMeta) -> Markup:
    drawn = [
        training_curve(name, [(curve, values) for curve, values in curves.items()])
        for name, curves in meta.curves.items()
        if any(len(values) > 1 for values in curves.values())
    ]
    at_once = [name for name in meta.curves if not any(len(v) > 1 for v in meta.curves[name].values())]
    without = tag("p", f"Fitted in one go, without epochs: {', '.join(at_once)}.", class_="muted")
    if not meta.curves:
        return Markup("")
    return join((tag("h2", "Training"), tag("div", *drawn, class_="charts"), without if at_once else None))


def _samples(meta: TrainingMeta) -> Markup:
    rows = [(_COUNTS.get(name, name), f"{count:,}") for name, count in meta.counts.items()]
    return join((tag("h2", "Samples"), table(("what", "count>"), rows))) if rows else Markup("")


def _sensors(meta: TrainingMeta) -> Markup:
    columns = ("sensor", "unit", "role", "mean>", "sigma>", "range>", "stuck after>")
    rows = [
        (
            sensor.name,
            sensor.unit,
            sensor.role,
            number(sensor.mean, 5),
            number(sensor.sigma),
            _range(sensor),
            duration(sensor.stuck_s),
        )
        for sensor in meta.sensors
    ]
    return join((tag("h2", "Sensors"), table(columns, rows))) if rows else Markup("")


def _range(sensor: SensorRow) -> str:
    if sensor.low is None and sensor.high is None:
        return "\u2014"
    return f"{number(sensor.low)} to {number(sensor.high)}"
