"""Traces of many polls as one: assets and contexts by name, whatever their numbers were."""

from __future__ import annotations

import numpy as np

from connectors.records import NO_CONTEXT, Context
from monitor.trace import Trace, joined
from tests.traces import trace_of

B1, B2 = Context(batch_id="b1"), Context(batch_id="b2", recipe="r")


def marked(assets: dict[str, list[float]], contexts: tuple[Context, ...], context: list[int]) -> Trace:
    """A trace in which every column of a window tells its ratio."""
    trace = trace_of(assets, sensors=("t",))
    return trace._replace(
        contexts=contexts,
        context=np.array(context, np.int32),
        end=(trace.ratio * 1000).astype(np.int64),
        coverage=trace.ratio.astype(np.float32),
        observed=trace.ratio[:, None] + 1,
        expected=trace.ratio[:, None] + 2,
        sigma=trace.ratio[:, None] + 3,
        low=trace.ratio[:, None] + 5,
        high=trace.ratio[:, None] + 6,
        contributions=(trace.ratio[:, None] + 4).astype(np.float32),
        version=trace.ratio.astype(np.int32),
        scored=trace.ratio % 2 == 0,
    )


def first() -> Trace:
    return marked({"p": [1.0, 2.0], "q": [3.0]}, (NO_CONTEXT, B1), [0, 1, 1])


def second() -> Trace:
    """Assets in another order, one more, and contexts numbered otherwise."""
    return marked({"r": [4.0], "q": [5.0, 6.0], "p": [7.0]}, (NO_CONTEXT, B2, B1), [1, 1, 0, 2])


def told(trace: Trace) -> list[tuple[str, float, Context]]:
    return [
        (trace.assets[a], ratio, trace.contexts[c])
        for a, ratio, c in zip(trace.asset, trace.ratio.tolist(), trace.context, strict=True)
    ]


def test_windows_are_gathered_by_asset_in_order_of_time_with_their_own_context() -> None:
    assert told(joined([first(), second()])) == [
        ("p", 1.0, NO_CONTEXT),
        ("p", 2.0, B1),
        ("p", 7.0, B1),
        ("q", 3.0, B1),
        ("q", 5.0, B2),
        ("q", 6.0, NO_CONTEXT),
        ("r", 4.0, B2),
    ]


def test_every_column_moves_with_its_window() -> None:
    trace = joined([first(), second()])
    ratio = trace.ratio
    assert trace.end.tolist() == (ratio * 1000).tolist()
    assert trace.coverage.tolist() == ratio.tolist()
    assert trace.scorer_ratio.ravel().tolist() == ratio.tolist()
    assert trace.score.ravel().tolist() == (ratio * 3).tolist()
    for column, more in (
        (trace.observed, 1),
        (trace.expected, 2),
        (trace.sigma, 3),
        (trace.contributions, 4),
        (trace.low, 5),
        (trace.high, 6),
    ):
        assert column.ravel().tolist() == (ratio + more).tolist()
    assert trace.version.tolist() == ratio.tolist()
    assert trace.scored.tolist() == (ratio % 2 == 0).tolist()
    lookups = {"asset_class", "sensors", "scorers", "assets", "contexts"}
    assert {
        name: len(getattr(trace, name)) for name in Trace._fields if name not in lookups
    } == dict.fromkeys((name for name in Trace._fields if name not in lookups), 7)


def test_empty_traces_before_between_and_after_change_nothing() -> None:
    none = marked({"p": []}, (NO_CONTEXT,), [])
    whole = joined([first(), second()])
    padded = joined([none, first(), none, second(), none])
    assert told(padded) == told(whole)
    assert padded.asset.dtype == whole.asset.dtype == np.int32
    assert len(joined([none]).ratio) == 0


def test_joining_in_steps_is_joining_at_once() -> None:
    third = marked({"q": [8.0]}, (NO_CONTEXT,), [0])
    assert told(joined([joined([first(), second()]), third])) == told(joined([first(), second(), third]))


def test_equal_contexts_of_several_polls_are_one() -> None:
    assert joined([first(), second(), first()]).contexts == (NO_CONTEXT, B1, B2)
