"""The page of a replay: figures, timelines, curves, histograms and incidents, in one self-contained file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from monitor.evaluation.asset_view import AssetView, asset_views
from monitor.evaluation.figures import Evaluation
from monitor.evaluation.incident_log import Incident
from monitor.evaluation.labels import Label, Labels
from monitor.quantities import NS_PER_S
from monitor.report import figure_tables as tables
from monitor.report.charts import Axis, Group, Line, histogram, line_chart, mark, x_axis, y_axis
from monitor.report.incident_list import incident_list
from monitor.report.markup import Markup, duration, join, number, percent, tag, whole
from monitor.report.page import facts, notes, page, tiles
from monitor.report.realised import realised_section
from monitor.report.timeline import Picture, Style, legend, timeline
from monitor.report.windows import window_gallery
from monitor.trace import Trace

CELLS = 40_000
"""Columns times panels of all timelines together; a cell is about 75 bytes of the page."""
FEWEST, MOST = 300, 2000
"""Columns of one timeline; where not every asset can have the fewest, the calmest assets have none."""
SENSORS = 16
"""Panels of sensors in one timeline at most."""


@dataclass(frozen=True)
class ReplayMeta:
    """What a replay's page says beyond its data.

    Attributes:
        title: of the page.
        facts: names and values shown at the top, in order (source, bundle, config, version, ...).
        units: UCUM code by sensor.
        warnings: what a reader must know before believing the figures.
        spans: windows of the trace that one window spans, by asset class.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    units: Mapping[str, str] = field(default_factory=dict[str, str])
    warnings: Sequence[str] = ()
    spans: Mapping[str, int] = field(default_factory=dict[str, int])


class _Asset(NamedTuple):
    """An asset to draw: its class's trace, its number in the page, and its view."""

    trace: Trace
    number: int
    view: AssetView


def replay_report(
    traces: Sequence[Trace],
    incidents: Sequence[Incident],
    labels: Labels,
    evaluations: Sequence[Evaluation],
    meta: ReplayMeta,
) -> str:
    """One self-contained HTML page about a replay.

    Args:
        traces: one per asset class.
        incidents: of all classes, in any order.
        labels: what is known of when assets were not normal.
        evaluations: one per trace, in the same order.
        meta: title, facts and units.

    Raises:
        ValueError: not one evaluation per trace.
    """
    parts = [
        _class_part(trace, list(asset_views(trace, incidents, labels)), evaluation)
        for trace, evaluation in zip(traces, evaluations, strict=True)
    ]
    assets = _assets(traces, incidents, labels)
    pictures = _pictures(assets, labels, meta)
    return page(
        meta.title,
        tag("h1", meta.title),
        facts(meta.facts),
        notes(meta.warnings),
        join(parts),
        _timelines(pictures, assets),
        window_gallery(
            [(asset.trace, asset.view) for asset in assets], dict(meta.spans), labels, _style(meta, 256)
        ),
        incident_list(
            incidents, {asset.view.asset: asset.trace for asset in assets}, labels, _style(meta, 160)
        ),
    )


def _class_part(trace: Trace, views: list[AssetView], evaluation: Evaluation) -> Markup:
    return join(
        (
            tag("h2", f"Figures of {trace.asset_class}"),
            tiles(_headline(evaluation)),
            notes(evaluation.notes),
            tables.assets(evaluation),
            tables.scorers(evaluation),
            tables.detections(evaluation),
            realised_section(
                evaluation.realised,
                f"Of {evaluation.pooled.rate.basis} windows; asked is the nu of the limit.",
            ),
            tag("div", *_charts(trace, views, evaluation), class_="charts"),
        )
    )


def _headline(evaluation: Evaluation) -> list[tuple[str, str]]:
    pooled = evaluation.pooled
    rate, incidents = pooled.rate, pooled.incidents
    always = [
        (
            f"windows over the limit, of {rate.basis} ones (asked: {percent(rate.asked)})",
            percent(rate.realised),
        ),
        (f"incidents in {number(incidents.days)} asset days", str(sum(incidents.by_kind.values()))),
        ("of windows scored", percent(pooled.share_scored)),
    ]
    if pooled.delays is None:
        return always
    delays = pooled.delays
    return [
        ("precision", number(pooled.precision)),
        ("recall", number(pooled.recall)),
        ("F1", number(pooled.f1)),
        ("ROC-AUC", number(pooled.ranking.roc_auc)),
        (f"PR-AUC (chance: {number(pooled.ranking.anomalous_share)})", number(pooled.ranking.pr_auc)),
        ("faults with a window over the limit", f"{delays.detected} of {delays.faults}"),
        ("median delay to it", duration(delays.median_first_s)),
        ("false incidents", whole(incidents.false)),
        *always,
    ]


class _Scores(NamedTuple):
    """Ratios [N] under one name, and which windows are anomalous."""

    name: str
    truth: NDArray[np.bool_]
    ratio: NDArray[np.float64]


def _charts(trace: Trace, views: list[AssetView], evaluation: Evaluation) -> list[Markup]:
    drawn = list[Markup]()
    if evaluation.pooled.ranking.roc_auc is not None:
        scores = _labelled_scores(trace, views)
        drawn += [_roc(scores, evaluation), _precision_recall(scores, evaluation)]
    drawn.append(histogram("Combined, smoothed ratio", _groups(views, [view.ratio for view in views])))
    if len(trace.scorers) > 1:
        for s, name in enumerate(trace.scorers):
            own = [np.where(view.scored, trace.scorer_ratio[view.rows, s], np.nan) for view in views]
            drawn.append(histogram(f"Ratio of {name}", _groups(views, own)))
    return drawn


def _labelled_scores(trace: Trace, views: list[AssetView]) -> list[_Scores]:
    rows = np.concatenate([view.rows[view.known] for view in views])
    truth = np.concatenate([view.codes[view.known] == Label.ANOMALOUS for view in views])
    together = _Scores("combined", truth, trace.ratio[rows])
    several = range(len(trace.scorers)) if len(trace.scorers) > 1 else ()
    return [together, *(_Scores(trace.scorers[s], truth, trace.scorer_ratio[rows, s]) for s in several)]


def _style_of(k: int) -> str:
    return "main" if k == 0 else f"s{(k - 1) % 4}"


def _roc(scores: list[_Scores], evaluation: Evaluation) -> Markup:
    x, y = x_axis("false-alarm rate", 0.0, 1.0), y_axis("recall", 0.0, 1.0)
    areas = [evaluation.pooled.ranking, *(s.ranking for s in evaluation.scorers)]
    lines = [Line("chance", "chance", np.array([0.0, 1.0]), np.array([0.0, 1.0]))]
    for k, (score, area) in enumerate(zip(scores, areas, strict=False)):
        finite = np.isfinite(score.ratio)
        false_alarms, recall, _ = roc_curve(score.truth[finite], score.ratio[finite])
        lines.append(Line(_style_of(k), f"{score.name} {number(area.roc_auc)}", false_alarms, recall))
    pooled = evaluation.pooled
    point = _operating(x, y, pooled.false_alarm_rate, pooled.recall, "false-alarm rate", "recall")
    return line_chart("ROC: recall against false alarms", [*lines[1:], lines[0]], x, y, point)


def _precision_recall(scores: list[_Scores], evaluation: Evaluation) -> Markup:
    x, y = x_axis("recall", 0.0, 1.0), y_axis("precision", 0.0, 1.0)
    areas = [evaluation.pooled.ranking, *(s.ranking for s in evaluation.scorers)]
    lines = list[Line]()
    for k, (score, area) in enumerate(zip(scores, areas, strict=False)):
        finite = np.isfinite(score.ratio)
        precision, recall, _ = precision_recall_curve(score.truth[finite], score.ratio[finite])
        lines.append(Line(_style_of(k), f"{score.name} {number(area.pr_auc)}", recall, precision))
    chance = evaluation.pooled.ranking.anomalous_share or 0.0
    lines.append(Line("chance", f"chance {number(chance)}", np.array([0.0, 1.0]), np.full(2, chance)))
    pooled = evaluation.pooled
    point = _operating(x, y, pooled.recall, pooled.precision, "recall", "precision")
    return line_chart("Precision against recall", lines, x, y, point)


def _operating(
    x: Axis, y: Axis, across: float | None, up: float | None, x_name: str, y_name: str
) -> Markup | None:
    if across is None or up is None:
        return None
    told = f"at the limit: {x_name} {number(across)}, {y_name} {number(up)}"
    return mark("operating", x, y, (across, up), told)


def _groups(views: list[AssetView], ratios: list[NDArray[np.float64]]) -> list[Group]:
    named = {"normal": Label.NORMAL, "anomalous": Label.ANOMALOUS, "unlabelled": Label.UNKNOWN}
    codes, values = np.concatenate([view.codes for view in views] or [[]]), np.concatenate(ratios or [[]])
    return [Group(name, name, values[codes == code]) for name, code in named.items()]


def _assets(traces: Sequence[Trace], incidents: Sequence[Incident], labels: Labels) -> list[_Asset]:
    views = [(trace, view) for trace in traces for view in asset_views(trace, incidents, labels)]
    return [_Asset(trace, index, view) for index, (trace, view) in enumerate(views)]


def _unrest(asset: _Asset) -> tuple[float, float]:
    """What makes an asset worth drawing first: its most severe incident, then its largest ratio."""
    ratio = asset.view.ratio[asset.view.scored]
    severity = max((incident.severity for incident in asset.view.incidents), default=0)
    return severity, float(ratio.max()) if len(ratio) else 0.0


def _movers(asset: _Asset) -> list[int]:
    """Sensors to draw, in the class's order: all, or those furthest from what was expected."""
    trace, rows = asset.trace, asset.view.rows
    if len(trace.sensors) <= SENSORS:
        return list(range(len(trace.sensors)))
    away = np.abs(trace.observed[rows] - trace.expected[rows]) / np.maximum(
        trace.sigma[rows], np.finfo(np.float64).tiny
    )
    furthest = np.quantile(np.where(np.isfinite(away), away, 0.0), 0.99, axis=0)
    return sorted(np.argsort(-furthest, kind="stable")[:SENSORS].tolist())


def _pictures(assets: list[_Asset], labels: Labels, meta: ReplayMeta) -> list[tuple[_Asset, Picture, Style]]:
    """The assets that are drawn, in the page's order, with as many columns as the page's size allows."""
    panels = [1 + min(len(asset.trace.sensors), SENSORS) for asset in assets]
    eventful = sorted(range(len(assets)), key=lambda k: _unrest(assets[k]), reverse=True)
    room = np.cumsum([panels[k] * FEWEST for k in eventful]) <= CELLS
    chosen = sorted(k for k, fits in zip(eventful, room, strict=True) if fits)
    columns = min(MOST, CELLS // max(1, sum(panels[k] for k in chosen)))
    return [(assets[k], _picture(assets[k], labels), _style(meta, columns)) for k in chosen]


def _picture(asset: _Asset, labels: Labels) -> Picture:
    view = asset.view
    faults = labels.faults_of(view.asset)
    return Picture(f"timeline-{asset.number}", asset.trace, view.rows, _movers(asset), view.incidents, faults)


def _style(meta: ReplayMeta, columns: int) -> Style:
    return Style(meta.units, columns)


def _timelines(drawn: list[tuple[_Asset, Picture, Style]], assets: list[_Asset]) -> Markup:
    links = [tag("a", asset.view.asset, href=f"#asset-{asset.number}") for asset, _, _ in drawn]
    help_text = (
        "Point at a timeline to read values, drag across it to zoom, double-click to see all of it again."
    )
    fewer = (
        f"Drawn are {len(drawn)} of {len(assets)} assets: those with the most severe incidents. "
        "The tables have all of them."
    )
    return join(
        (
            tag("h2", "Timelines"),
            tag("p", help_text, class_="muted"),
            tag("p", fewer, class_="note") if len(drawn) < len(assets) else None,
            tag("nav", *links) if len(drawn) > 1 else None,
            legend(),
            *(_asset_part(asset, picture, style) for asset, picture, style in drawn),
        )
    )


def _asset_part(asset: _Asset, picture: Picture, style: Style) -> Markup:
    view = asset.view
    told = [f"{len(view.rows):,} windows"]
    per_column = -(-len(view.rows) // style.columns)
    if per_column > 1:
        span = float(np.median(np.diff(view.ends))) * per_column / NS_PER_S
        told.append(
            f"each column shows the smallest and largest of up to {per_column} windows ({duration(span)})"
        )
    if len(picture.sensors) < len(asset.trace.sensors):
        told.append(
            f"{len(picture.sensors)} of {len(asset.trace.sensors)} sensors: those furthest from expected"
        )
    return join(
        (
            tag("h3", view.asset, id=f"asset-{asset.number}"),
            tag("p", "; ".join(told), class_="muted"),
            tag("div", timeline(picture, style), class_="scroll"),
        )
    )
