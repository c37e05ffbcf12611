"""Asked and realised rates by asset, recipe and phase, counted by hand on small traces."""

from __future__ import annotations

import numpy as np
import pytest

from connectors.records import NO_CONTEXT, Context
from monitor.evaluation.evaluate import evaluate
from monitor.evaluation.labels import Interval, from_intervals
from monitor.evaluation.realised import Realised
from monitor.report.realised import realised_section
from tests.traces import T0, S, incident, trace_of

WEEK = 7 * 86_400
HEAT, HOLD, WHOLE = Context("b1", "A", "heat"), Context("b1", "A", "hold"), Context("b2", "B")


def by_name(rows: tuple[Realised, ...]) -> dict[tuple[str, str], Realised]:
    return {(row.of, row.name): row for row in rows}


def test_rates_are_counted_by_asset_recipe_and_phase_over_windows_that_may_be_normal() -> None:
    """R-1: 10 windows, 4 in heat, 4 in hold, 2 outside a batch; its fault at 7 s and 8 s does not count."""
    one = [0.1, 1.2, 0.3, 0.4, 0.5, 1.5, 9.0, 9.0, 0.2, np.nan]
    trace = trace_of({"R-1": one, "R-2": [1.1, 0.5]})._replace(
        contexts=(NO_CONTEXT, HEAT, HOLD, WHOLE),
        context=np.array([1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 3], np.int32),
    )
    labels = from_intervals([("R-1", Interval(T0 + 7 * S, T0 + 8 * S, "step"))])
    incidents = [
        incident("R-1", 2),
        incident("R-1", 7),
        incident("R-2", 1),
        incident("R-2", 2, kind="SENSOR_FAULT"),
    ]
    rows = by_name(evaluate(trace, incidents, labels, nu=0.1).realised)
    counts = {key: (row.windows, row.exceedances, row.incidents) for key, row in rows.items()}
    assert counts == {
        ("all", ""): (9, 3, 2),
        ("asset", "R-1"): (7, 2, 1),
        ("asset", "R-2"): (2, 1, 1),
        ("recipe", "A"): (6, 2, 1),
        ("recipe", "B"): (1, 0, 0),
        ("phase", "A / heat"): (4, 1, 1),
        ("phase", "A / hold"): (2, 1, 0),
    }
    heat = rows["phase", "A / heat"]
    assert (heat.realised, heat.asked) == (0.25, 0.1)
    assert heat.ratio == pytest.approx(2.5)
    assert heat.per_week == pytest.approx(WEEK / 4), "one incident in 4 windows of a second"
    assert rows["all", ""].per_week == pytest.approx(2 * WEEK / 9)


def test_a_window_stands_for_the_usual_distance_whatever_gaps_there_are() -> None:
    trace = trace_of({"R-1": [1.2, 0.1, 0.1, 0.1]}, seconds={"R-1": [10, 20, 30, 9000]})
    (everything, _) = evaluate(trace, [incident("R-1", 10)], nu=0.5).realised
    assert everything.per_week == pytest.approx(WEEK / 40)
    assert everything.ratio == 0.5


def test_the_section_has_a_row_for_each_and_nothing_without_windows() -> None:
    trace = trace_of({"<R-1>": [1.2, 0.1]})
    page = str(realised_section(evaluate(trace, [], nu=0.1).realised, "Of windows."))
    assert page.count("<tr") == 3
    assert "&lt;R-1&gt;" in page
    assert realised_section(evaluate(trace_of({"R-1": [np.nan]}), [], nu=0.1).realised, "") == ""
