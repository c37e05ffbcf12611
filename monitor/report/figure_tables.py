"""The tables of a replay's page."""

from __future__ import annotations

from monitor.evaluation.figures import Evaluation, Figures
from monitor.report.markup import Markup, duration, join, number, percent, tag, whole
from monitor.report.page import table

_ASSET_COLUMNS = (
    "asset",
    "windows>",
    "scored>",
    "precision>",
    "recall>",
    "F1>",
    "false alarms>",
    "missed>",
    "ROC-AUC>",
    "PR-AUC>",
    "realised nu>",
    "95 % interval>",
    "tau>",
    "anomalies per day>",
    "false incidents>",
    "faults found>",
    "nearest to 1>",
)


def assets(evaluation: Evaluation) -> Markup:
    """All figures, pooled and by asset."""
    rows = [_asset_row("all, pooled", evaluation.pooled)]
    rows += [_asset_row(name, figures) for name, figures in evaluation.assets.items()]
    explained = (
        "Per window, by the label of its last sample, never point-adjusted; 'nearest to 1' is the smallest "
        "|ratio - 1|. Realised nu is over windows that are not known to be anomalous; its interval takes "
        "windows / tau as independent."
    )
    return join((table(_ASSET_COLUMNS, rows, totals=1), tag("p", explained, class_="muted")))


def _asset_row(name: str, figures: Figures) -> tuple[str, ...]:
    rate, delays = figures.rate, figures.delays
    return (
        name,
        f"{figures.windows:,}",
        percent(figures.share_scored),
        number(figures.precision),
        number(figures.recall),
        number(figures.f1),
        percent(figures.false_alarm_rate),
        percent(figures.missed_alarm_rate),
        number(figures.ranking.roc_auc),
        number(figures.ranking.pr_auc),
        percent(rate.realised),
        "\u2014" if rate.low is None else f"{percent(rate.low)} to {percent(rate.high)}",
        number(rate.tau),
        number(figures.incidents.anomalies_per_day),
        whole(figures.incidents.false),
        "\u2014" if delays is None else f"{delays.detected} of {delays.faults}",
        number(figures.decisive_ratio, 2),
    )


def scorers(evaluation: Evaluation) -> Markup | None:
    """Each scorer by itself; nothing where there is one only."""
    if len(evaluation.scorers) < 2:
        return None
    rows = [
        (
            one.name,
            number(one.ranking.roc_auc),
            number(one.ranking.pr_auc),
            percent(one.rate.realised),
            number(one.rate.tau),
        )
        for one in evaluation.scorers
    ]
    columns = ("scorer alone, unsmoothed", "ROC-AUC>", "PR-AUC>", "realised nu>", "tau>")
    return join((tag("h3", "Scorers"), table(columns, rows)))


def detections(evaluation: Evaluation) -> Markup | None:
    """Every labelled fault, and how long it took; nothing without labels."""
    if not evaluation.detections:
        return None
    rows = [
        (
            seen.asset,
            seen.name,
            seen.start,
            seen.end,
            f"{seen.windows:,}",
            duration(seen.first_delay_s) if seen.first_delay_s is not None else "not found",
            duration(seen.third_delay_s),
            duration(seen.incident_delay_s),
            "over the limit before it began" if seen.over_before else "",
        )
        for seen in evaluation.detections
    ]
    columns = (
        "asset",
        "label",
        "from",
        "to",
        "scored windows>",
        "first over the limit>",
        "third in a row>",
        "incident raised>",
        "",
    )
    return join((tag("h3", "Labelled faults"), table(columns, rows)))
