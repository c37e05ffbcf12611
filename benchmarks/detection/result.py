"""Figures of all contenders as tables, bars and JSON: side by side, with their spread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from benchmarks.detection import tep
from benchmarks.detection.contenders import DEFAULT
from benchmarks.detection.contract import Bar, Section, Table
from benchmarks.detection.measures import SetFigures, bootstrap, headline
from monitor.settings import Calibration

_COMMON: Final = {
    "roc": "ROC-AUC",
    "pr": "PR-AUC",
    "vus_roc": "VUS-ROC",
    "vus_pr": "VUS-PR",
    "f1": "F1",
    "far_before": "FAR before",
    "far_after": "FAR after",
    "mar": "MAR",
    "delay": "delay",
    "undetected": "undetected",
}
_TEP: Final = {
    "fdr": "FDR at 1 % FAR",
    "fdr_delay": "delay",
    "own_fdr": "FDR, own limit",
    "realised": "FAR, own limit",
}
_SHARES: Final = frozenset({"far_before", "far_after", "mar", "fdr", "own_fdr", "realised"})
_COUNTS: Final = frozenset({"delay", "undetected", "fdr_delay"})
_RANKINGS: Final = ("roc", "pr", "vus_roc", "vus_pr")
_MOST_NOTES: Final = 12
NOTHING: Final = "-"


class Result(NamedTuple):
    """Figures of one contender and seed on one data set; ``seconds`` of a core that they took."""

    dataset: str
    contender: str
    seeded: bool
    seed: int
    figures: SetFigures
    warnings: tuple[str, ...]
    incidents: dict[str, int]
    seconds: float = 0.0


class Entry(NamedTuple):
    """Figures of one contender on one data set over its seeds.

    Attributes:
        seeds: figures of each seed.
        spread: standard deviation of each headline figure, over seeds or over drawn series; None: cannot be said.
        results: what they are from.
    """

    seeds: list[dict[str, float | None]]
    spread: dict[str, float | None]
    results: list[Result]

    def mean(self, name: str) -> float | None:
        """Mean over the seeds that have the figure."""
        known = [value for seed in self.seeds if (value := seed[name]) is not None]
        return float(np.mean(known)) if known else None

    def median(self, name: str) -> float | None:
        """Median over the seeds; None where one has no such figure."""
        values = [seed[name] for seed in self.seeds]
        known = [value for value in values if value is not None]
        return median(known) if known and len(known) == len(values) else None

    @property
    def refused(self) -> bool:
        """Whether no series has a model."""
        figures = self.results[0].figures
        return sum(figures.refused.values()) == len(figures.series)


Entries = Mapping[str, Mapping[str, Entry]]
"""By data set and contender."""


def section_of(results: Sequence[Result], notes: Sequence[str]) -> Section:
    """Tables, bars and figures of everything that was measured."""
    entries = _entries(results)
    tables = [table for name, each in entries.items() for table in _tables(name, each)]
    return Section(
        "detection",
        tuple(tables),
        tuple(_bars(entries)),
        {name: {who: _json(entry) for who, entry in each.items()} for name, each in entries.items()},
        tuple(notes),
    )


def _entries(results: Sequence[Result]) -> dict[str, dict[str, Entry]]:
    found: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        found.setdefault(result.dataset, {}).setdefault(result.contender, []).append(result)
    return {name: {who: _entry(mine) for who, mine in each.items()} for name, each in found.items()}


def _entry(results: list[Result]) -> Entry:
    seeds = [headline(result.figures) for result in results]
    names = list(seeds[0])
    if len(results) > 1:
        return Entry(seeds, {name: _deviation(seed[name] for seed in seeds) for name in names}, results)
    return Entry(seeds, bootstrap(results[0].figures, names), results)


def _deviation(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def _tables(dataset: str, each: Mapping[str, Entry]) -> list[Table]:
    some = next(iter(each.values())).results[0].figures
    notes = (*_spread_note(each), *_row_note(some), *_refusals(each), *_warnings(each))
    tables = [_table(f"{dataset}: {len(some.series)} series", _COMMON, each, notes)]
    if some.tep is not None:
        tables += [_table("tep: at limits from the normal runs", _TEP, each, _tep_notes()), _per_fault(each)]
    return tables


def _table(title: str, figures: Mapping[str, str], each: Mapping[str, Entry], notes: Sequence[str]) -> Table:
    rows = [(who, *(_cell(entry, name) for name in figures), _unscored(entry)) for who, entry in each.items()]
    return Table(title, ("scorer", *figures.values(), "unscored"), tuple(rows), tuple(notes))


def _cell(entry: Entry, name: str) -> str:
    if entry.refused:
        return "refused"
    value, spread = entry.mean(name), entry.spread[name]
    if value is None:
        return NOTHING
    text = _number(name, value)
    return text if spread is None else f"{text} ± {_number(name, spread)}"


def _number(name: str, value: float) -> str:
    if name in _SHARES:
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if name in _COUNTS else f"{value:.3f}"


def _unscored(entry: Entry) -> str:
    figures = entry.results[0].figures
    return f"{100 * figures.unscored / max(figures.rows, 1):.1f} %"


def _spread_note(each: Mapping[str, Entry]) -> list[str]:
    seeds = max(len(entry.results) for entry in each.values())
    how = f"over {seeds} seeds of training, or " if seeds > 1 else ""
    return [f"± is one standard deviation: {how}over series drawn with replacement where there is one seed"]


def _row_note(figures: SetFigures) -> list[str]:
    return [
        "delay: median rows to the third of three alarms in a row; an undetected anomaly is longer than any; "
        f"undetected: of {figures.anomalies} anomalies",
        "unscored: rows whose window is not full or not real enough count with score 0 and no alarm",
    ]


def _tep_notes() -> list[str]:
    hard = ", ".join(map(str, tep.HARD))
    return [
        f"mean over the faults without {hard}; the limit lets 1 % of the scored rows of the independent normal runs "
        "'normal-a' and 'normal-b' through",
        "own limit: the monitor's own threshold, from training rows only; its FAR is that of the same normal runs, "
        f"asked is {100 * Calibration().nu:g} %",
    ]


def _refusals(each: Mapping[str, Entry]) -> list[str]:
    return [
        f"{who}: refused on {count} of {len(entry.results[0].figures.series)} series: {reason}"
        for who, entry in each.items()
        for reason, count in list(entry.results[0].figures.refused.items())[:2]
    ]


def _warnings(each: Mapping[str, Entry]) -> list[str]:
    found: dict[str, str] = {}
    for who, entry in each.items():
        for warning in entry.results[0].warnings[:1]:
            more = len(entry.results[0].warnings) - 1
            found[who] = f"{who}: {warning}" + (f" (and {more} more like it)" if more else "")
    return list(found.values())[:_MOST_NOTES]


def _per_fault(each: Mapping[str, Entry]) -> Table:
    shown = {who: entry for who, entry in each.items() if not entry.refused}
    faults = next(iter(each.values())).results[0].figures.tep
    numbers = [fault.number for fault in faults.faults] if faults is not None else []
    rows = [
        (f"{number} *" if number in tep.HARD else str(number), *_rates(shown, place))
        for place, number in enumerate(numbers)
    ]
    return Table(
        "tep: share of each fault's rows over the limit at 1 % FAR",
        ("fault", *shown),
        tuple(rows),
        ("* hardly seen by classical methods, and in no mean",),
    )


def _rates(each: Mapping[str, Entry], place: int) -> list[str]:
    found: list[str] = []
    for entry in each.values():
        rates = [r.figures.tep.faults[place].rate for r in entry.results if r.figures.tep is not None]
        found.append(f"{100 * float(np.mean(rates)):.1f} %")
    return found


def _bars(entries: Entries) -> list[Bar]:
    """The bars that the default configuration and its two networks must reach."""
    return [*_skab_bars(entries.get("skab", {})), *_tep_bars(entries.get("tep", {})), *_network_bars(entries)]


def _skab_bars(each: Mapping[str, Entry]) -> list[Bar]:
    if DEFAULT not in each:
        return []
    of = each[DEFAULT]
    return [
        Bar("SKAB: ROC-AUC", _value(of, "roc"), 0.87, 0.90),
        Bar("SKAB: VUS-PR", _value(of, "vus_pr"), 0.90, 0.92),
        Bar("SKAB: F1", _value(of, "f1"), 0.78, 0.80),
        Bar("SKAB: FAR before the fault", _value(of, "far_before"), 0.10, 0.05, higher=False),
    ]


def _tep_bars(each: Mapping[str, Entry]) -> list[Bar]:
    if DEFAULT not in each:
        return []
    of, nu = each[DEFAULT], Calibration().nu
    realised = _value(of, "realised")
    share = None if realised is None else realised / nu
    return [
        Bar("TEP: ROC-AUC of the 18 detectable faults", _value(of, "roc"), 0.985, 0.99),
        Bar("TEP: FDR at 1 % FAR", _value(of, "fdr"), 0.94, 0.97),
        Bar("TEP: delay at 1 % FAR, rows", _value(of, "fdr_delay"), 12.0, 8.0, higher=False),
        Bar("TEP normal runs: realised over asked nu, at least", share, 0.5, 0.8),
        Bar("TEP normal runs: realised over asked nu, at most", share, 1.6, 1.25, higher=False),
    ]


def _network_bars(entries: Entries) -> list[Bar]:
    bars: list[Bar] = []
    for name in ("lstm_autoencoder", "ocnn"):
        for peer in ("pca", "var", "ocnn_w1") if name == "ocnn" else ("pca", "var"):
            least = _least_difference(entries, name, peer)
            if least is not None:
                bars.append(Bar(f"{name} less {peer}, worst ranking or FDR of all sets", least, 0.0))
    return bars


def _least_difference(entries: Entries, name: str, peer: str) -> float | None:
    found: list[float] = []
    for dataset, each in entries.items():
        if name not in each or peer not in each:
            continue
        for metric in (*_RANKINGS, "fdr") if dataset == "tep" else _RANKINGS:
            ours, theirs = _value(each[name], metric), _value(each[peer], metric)
            if ours is not None and theirs is not None:
                found.append(ours - theirs)
    return min(found, default=None)


def _value(entry: Entry, name: str) -> float | None:
    return None if entry.refused else entry.median(name)


def _json(entry: Entry) -> dict[str, Any]:
    first = entry.results[0]
    return {
        "seeds": {str(result.seed): seed for result, seed in zip(entry.results, entry.seeds, strict=True)},
        "mean": {name: entry.mean(name) for name in entry.spread},
        "spread": entry.spread,
        "refused": first.figures.refused,
        "incidents": first.incidents,
        "seconds": [round(result.seconds, 1) for result in entry.results],
        "warnings": list(first.warnings),
        "figures": msgspec.to_builtins(first.figures),
    }
