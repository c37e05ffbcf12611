"""Training and replay of a data set by the very code that users run: `monitor.training.train`, `monitor.replay`.

Every series is an asset of its model's asset class; all assets of a data set go through one replay. A series' rows
before its test are replayed as an asset of their own: what is judged begins as a monitor does that is switched on after
training, with one window's worth of rows to fill its first window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.contract import Teller
from benchmarks.detection.data import DataSet, Model, Series, Split
from benchmarks.detection.setting import Scorers, asset_class_of
from connectors.memory import MemorySource
from connectors.records import NO_CONTEXT, Batch, Context, Quality
from monitor import __version__
from monitor import model as monitor_model
from monitor.facts import Identity
from monitor.pipeline import Pipeline
from monitor.replay import Replayed, replay
from monitor.settings import AssetClass, Settings
from monitor.trace import Trace
from monitor.training import Trained, TrainingRefused, train
from monitor.training.fit import FitScorer, fit_anew

BEFORE = "#before"
"""Behind the name of the asset that holds a series' rows before its test."""
_CUT = 20_000
_NO_ROWS = "there are no rows to learn from"
_START_NS = 1_577_836_800 * 10**9


class Outcome(NamedTuple):
    """What the monitor says of one series.

    Attributes:
        series: the series.
        score: [N] float64, the final ratio: combined, smoothed, 1.0 is the limit; 0 where there is none.
        alarm: [N] bool, the ratio is over 1.
        scored: [N] bool, False where the window is not full or not real enough.
        refused: why there is no model; None where there is one.
    """

    series: Series
    score: NDArray[np.float64]
    alarm: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    refused: str | None = None


class Learnt(NamedTuple):
    """A model that was trained, or why it was refused."""

    settings: AssetClass
    model: monitor_model.Model | None
    refused: str | None
    warnings: tuple[str, ...]
    trained: Trained | None = None


class Executed(NamedTuple):
    """What a configuration says of a data set.

    Attributes:
        outcomes: of every judged series.
        warnings: of trainings, each once.
        incidents: raised, by kind.
    """

    outcomes: tuple[Outcome, ...]
    warnings: tuple[str, ...]
    incidents: Mapping[str, int]


def execute(
    dataset: DataSet, scorers: Scorers, seed: int, teller: Teller, fit_scorer: FitScorer = fit_anew
) -> Executed:
    """Train a data set's models and replay its series.

    Args:
        dataset: the series.
        scorers: options by scorer; empty: the default's.
        seed: of training.
        teller: is told of every trained model.
        fit_scorer: fits each scorer; may remember.
    """
    learnt: dict[str, Learnt] = {}
    for model in dataset.models:
        settings = asset_class_of(model, scorers, seed)
        learnt[model.name] = (
            learn(model, settings, fit_scorer) if model.learn else Learnt(settings, None, _NO_ROWS, ())
        )
        teller.step(model.name)
    return judge(dataset, learnt)


def judge(dataset: DataSet, learnt: Mapping[str, Learnt]) -> Executed:
    """Replay a data set's series under models that were trained before.

    Args:
        dataset: the series.
        learnt: by the name of the model.
    """
    replayed = _replay(dataset, learnt)
    outcomes = [
        _outcome(series, learnt[model.name], replayed) for model in dataset.models for series in model.judge
    ]
    warnings = dict.fromkeys(warning for one in learnt.values() for warning in one.warnings)
    return Executed(tuple(outcomes), tuple(warnings), _incidents(replayed))


def learn(model: Model, settings: AssetClass, fit_scorer: FitScorer = fit_anew) -> Learnt:
    """Train one model; that it is refused is a result as well."""
    try:
        trained = train(
            settings,
            model.name,
            [_history(model, settings)],
            config_hash="benchmark",
            fit_scorer=fit_scorer,
        )
    except TrainingRefused as error:
        return Learnt(settings, None, str(error).removeprefix(f"asset class {model.name!r}: "), ())
    except Exception as error:  # a scorer may be anybody's: whatever it raises is told, and the others go on
        return Learnt(settings, None, f"{type(error).__name__}: {error}", ())
    model_of = monitor_model.Model(trained.bundle, settings)
    return Learnt(settings, model_of, None, tuple(trained.warnings), trained)


class _Piece(NamedTuple):
    """Consecutive rows of one asset; ``time`` may differ from the series'."""

    asset: str
    series: Series
    rows: NDArray[np.int64]
    time: NDArray[np.int64]


def _history(model: Model, settings: AssetClass) -> Batch:
    """What teaches. Several series all begin at one time, and what calibrates after all that trains.

    Series of one plant (those with a template) keep their times: their batches' phases are told in them.
    """
    if len(model.learn) == 1 or model.template is not None:
        known = [(series, np.flatnonzero(series.split != Split.TEST)) for series in model.learn]
        own = [_Piece(series.name, series, rows, series.time[rows]) for series, rows in known]
        return _batch(model, own, settings)
    pieces: list[_Piece] = []
    begin = _START_NS
    for kind in (Split.TRAIN, Split.CALIB):
        own = [_begun(series, kind, begin) for series in model.learn if (series.split == kind).any()]
        begin = max([begin, *(int(piece.time[-1]) for piece in own)]) + int(settings.sampling)
        pieces += own
    return _batch(model, pieces, settings)


def _begun(series: Series, kind: Split, begin: int) -> _Piece:
    rows = np.flatnonzero(series.split == kind)
    return _Piece(
        f"{series.name}#{kind.name.lower()}", series, rows, series.time[rows] - series.time[rows[0]] + begin
    )


def _replay(dataset: DataSet, learnt: Mapping[str, Learnt]) -> Replayed | None:
    models = {name: one.model for name, one in learnt.items() if one.model is not None}
    if not models:
        return None
    settings = Settings(
        site="benchmark",
        source={"kind": "memory"},
        asset_classes={name: learnt[name].settings for name in models},
    )
    identities = {name: Identity(model.bundle_id, None, "benchmark") for name, model in models.items()}
    batches = [_live(model, learnt[model.name].settings) for model in dataset.models if model.name in models]
    return replay(
        MemorySource([batch for batch in batches if len(batch.time)], cuts=(_CUT,)),
        lambda partition: Pipeline(
            settings, models, partition, identities, topic="memory", replay=True, version=__version__
        ),
        {name: model.bundle_id for name, model in models.items()},
    )


def _live(model: Model, settings: AssetClass) -> Batch:
    """All judged series of a model, with a last row after each that closes its last slots."""
    pieces: list[_Piece] = []
    for series in model.judge:
        first = _first_judged(series)
        if first > 0:
            pieces.append(_piece(f"{series.name}{BEFORE}", series, 0, first))
        if first < len(series.time):
            filling = max(0, first - (settings.window.length - 1))
            pieces.append(_piece(series.name, series, filling, len(series.time)))
    return _batch(model, pieces, settings, closing=True)


def _piece(asset: str, series: Series, first: int, last: int) -> _Piece:
    return _Piece(asset, series, np.arange(first, last), series.time[first:last])


def _first_judged(series: Series) -> int:
    """The first row of the test; the number of rows where there is none."""
    test = np.flatnonzero(series.split == Split.TEST)
    return int(test[0]) if len(test) else len(series.time)


def _batch(model: Model, pieces: Sequence[_Piece], settings: AssetClass, *, closing: bool = False) -> Batch:
    """Rows of several assets in order of time."""
    contexts: dict[Context, int] = {NO_CONTEXT: 0}
    parts = [_columns(number, piece, contexts, len(model.sensors)) for number, piece in enumerate(pieces)]
    if closing:
        parts += [_closing(part, settings) for part in parts]
    asset, time, values, context = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(time, kind="stable")
    finite = np.isfinite(values)
    quality = np.where(finite, np.uint8(Quality.GOOD), np.uint8(Quality.ABSENT))
    return Batch(
        asset_class=model.name,
        assets=tuple(piece.asset for piece in pieces),
        asset=asset[order],
        time=time[order],
        values=np.where(finite, values, np.nan)[order],
        quality=quality[order],
        contexts=tuple(contexts),
        context=context[order],
        offset=np.arange(len(order), dtype=np.int64),
    )


_Columns = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64], NDArray[np.int32]]


def _columns(number: int, piece: _Piece, contexts: dict[Context, int], sensors: int) -> _Columns:
    rows, series = piece.rows, piece.series
    context = np.zeros(len(rows), np.int32)
    if len(series.context):
        table = np.array([contexts.setdefault(one, len(contexts)) for one in series.contexts], np.int32)
        context = table[series.context[rows]]
    values = series.values[rows].reshape(len(rows), sensors)
    return np.full(len(rows), number, np.int32), piece.time, values, context


def _closing(part: _Columns, settings: AssetClass) -> _Columns:
    """A row without readings, late enough that the watermark closes the last slot."""
    asset, time, values, _ = part
    after = time[-1:] + int(settings.time.lateness) + 2 * int(settings.sampling)
    return asset[-1:], after, np.full((1, values.shape[1]), np.nan), np.zeros(1, np.int32)


def _outcome(series: Series, learnt: Learnt, replayed: Replayed | None) -> Outcome:
    rows = len(series.time)
    score, scored = np.zeros(rows), np.zeros(rows, np.bool_)
    if learnt.model is None or replayed is None:
        return Outcome(series, score, np.zeros(rows, np.bool_), scored, learnt.refused)
    step = int(learnt.settings.sampling)
    first = _first_judged(series)
    ends = -(-series.time // step) * step  # the slot that each row belongs to
    trace = next((t for name, t in replayed.traces.items() if name in _class_names(learnt)), None)
    if trace is not None:
        for asset, part in ((f"{series.name}{BEFORE}", slice(0, first)), (series.name, slice(first, rows))):
            found, known = _ratios(trace, asset, ends[part])
            score[part], scored[part] = found, known
    return Outcome(series, score, scored & (score > 1.0), scored)


def _class_names(learnt: Learnt) -> tuple[str, ...]:
    return () if learnt.model is None else (str(learnt.model.bundle.fields["asset_class"]),)


def _ratios(
    trace: Trace, asset: str, ends: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Final ratio of the window that ends with each row's slot, 0 where there is none, and whether there is one."""
    none = np.zeros(len(ends)), np.zeros(len(ends), np.bool_)
    if asset not in trace.assets or not len(ends):
        return none
    mine = (trace.asset == trace.assets.index(asset)) & trace.scored & np.isfinite(trace.ratio)
    end, ratio = trace.end[mine], trace.ratio[mine]
    if not len(end):
        return none
    at = np.minimum(np.searchsorted(end, ends), len(end) - 1)
    known = end[at] == ends
    return np.where(known, ratio[at], 0.0), known


def _incidents(replayed: Replayed | None) -> dict[str, int]:
    kinds = [incident.kind for incident in replayed.incidents] if replayed is not None else []
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}
