"""Re-centring: slow, gated, capped, told of, and never a way for the cut of the stream to matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from connectors.records import Channel, OutRecord, Polled
from monitor.configuration import parse
from monitor.engine import Step
from monitor.event_time.grid import Slots
from monitor.ledger import Ledger
from monitor.pipeline import empty_outcome
from monitor.settings import Recentring as Settings
from monitor.thresholds.adaptation_events import Recentred
from monitor.thresholds.recentring import Recentring
from monitor.trace import Trace
from monitor.validation.finding import Findings
from monitor.validation.rules import check_class
from monitor.yaml_lines import load
from tests.worlds import (
    SECOND,
    START,
    World,
    autoregressive,
    batch_of,
    by_asset,
    configuration_text,
    run,
    world,
)

EPOCH = 100
NAMES = ("a", "b", "c")


# ---- the stage, by hand


def stage(chosen: tuple[bool, ...] = (True, True, False), **settings: Any) -> Recentring:
    made = Recentring(Settings(epoch=EPOCH, **settings), np.array(chosen), NAMES, float(EPOCH))
    made.grow(1)
    return made


def live(made: Recentring, epoch: int, z: tuple[float, ...], windows: int = EPOCH) -> dict[str, Any]:
    """One asset shows z-scores for an epoch: what moved when the epoch began."""
    row, slot = np.zeros(EPOCH, np.int32), epoch * EPOCH + np.arange(EPOCH)
    events = made.begin(row, slot, slot * SECOND)
    for _ in range(windows):
        made.learn(np.zeros(1, np.int64), np.array([z], np.float32), np.ones((1, 3), np.bool_))
    return events[0][0].moved if events else {}


def test_a_centre_follows_by_a_share_of_an_epoch_that_is_over_a_whole_epoch_back() -> None:
    made = stage(rate=0.5)
    assert live(made, 7, (1.0, -0.4, 1.0)) == {}
    assert live(made, 8, (0.0, 0.0, 0.0)) == {}
    assert live(made, 9, (0.0, 0.0, 0.0)) == {"a": (0.0, 0.5), "b": (0.0, pytest.approx(-0.2, abs=1e-4))}
    moved = live(made, 10, (0.0, 0.0, 0.0))
    assert moved == {"a": (0.5, 0.25)}, "b is under a quarter sigma away, and stays"


def test_after_a_pause_both_epochs_before_it_have_their_say() -> None:
    made = stage(rate=0.5)
    live(made, 7, (1.0, 0.0, 0.0))
    live(made, 8, (1.0, 0.0, 0.0))
    assert live(made, 20, (0.0, 0.0, 0.0)) == {"a": (0.0, 0.75)}
    assert live(made, 21, (0.0, 0.0, 0.0)) == {}


def test_a_centre_goes_no_further_than_the_cap_and_the_cap_no_further_than_two_sigma() -> None:
    for most, reached in ((1.5, 1.5), (50.0, 2.0)):
        made = stage(rate=1.0, max_total=most)
        for epoch in range(5):
            live(made, epoch, (22.0, 0.0, 0.0))
        assert made.offsets(np.zeros(1, np.int64))[0].tolist() == [reached, 0.0, 0.0]


def test_an_epoch_of_which_less_than_half_teaches_is_left_out() -> None:
    made = stage(rate=1.0)
    live(made, 0, (1.0, 0.0, 0.0), windows=EPOCH // 2 - 1)
    live(made, 1, (1.0, 0.0, 0.0), windows=EPOCH // 2)
    assert live(made, 2, (0.0, 0.0, 0.0)) == {}
    assert live(made, 3, (0.0, 0.0, 0.0)) == {"a": (0.0, 1.0)}


def test_no_two_epochs_of_an_asset_come_into_one_pass() -> None:
    row = np.array([0, 0, 0, 0, 1, 1, 2], np.int32)
    slot = np.array([98, 99, 100, 205, 100, 101, 350])
    assert stage().passes(row, slot).tolist() == [0, 0, 1, 2, 0, 0, 0]
    assert stage((False, False, False)).passes(row, slot).tolist() == [0] * 7


def test_the_daemon_logs_a_centre_that_moves() -> None:
    lines: list[tuple[str, dict[str, Any]]] = []

    class Log:
        def warning(self, name: str, **told: Any) -> None:
            lines.append((name, told))

    outcome = empty_outcome()
    outcome.adaptations.append(("plant/0", Recentred(0, START, {"s2": (0.0, 0.51234)})))
    Ledger(Log(), 0.0).note([Step(Polled(0, 1, (), records=1), outcome)])
    assert lines == [("recentred", {"asset": "plant/0", "sigma": {"s2": 0.512}})]


# ---- what may be re-centred


def findings_of(lines: str, drift: str = "") -> list[str]:
    text = f"""
site: test
source: {{kind: memory}}
asset_classes:
  unit:
    assets: ["*"]
    sampling: 1s
    window: {{length: 16}}
    {drift}
    sensors:
{lines}
"""
    asset_class = parse(text, Path("x.yaml")).settings.asset_classes["unit"]
    found = Findings("x.yaml", load(text))
    check_class(asset_class, ("asset_classes", "unit"), found)
    return [finding.message for finding in found.sorted() if "recentr" in finding.path]


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("{unit: Cel, role: ambient, recentre: true}", ""),
        ("{unit: bar, recentre: true}", ""),
        ("{unit: Cel, recentre: true}", "beside a set-point in Cel"),
        ("{unit: '%', role: output, recentre: true}", "of role output"),
        ("{unit: Cel, role: setpoint, recentre: true}", "of role setpoint"),
    ],
)
def test_only_what_nothing_controls_may_be_re_centred(line: str, refused: str) -> None:
    found = findings_of(
        f"      t: {line}\n      u: {{unit: Cel}}\n      target: {{unit: Cel, role: setpoint}}"
    )
    assert len(found) == bool(refused)
    assert all(refused in message for message in found)


def test_a_cap_over_two_sigma_is_refused() -> None:
    line = "      t: {unit: Cel, role: ambient, recentre: true}"
    assert len(findings_of(line, "drift: {recentring: {max_total: 3}}")) == 1


# ---- the whole pipeline


def wandering(seed: int, rows: int, sigma: float, over: int) -> np.ndarray:
    """Three sensors; the last, ambient, goes ``sigma`` standard deviations in ``over`` rows and stays there."""
    values = autoregressive(seed, rows, 3, pull=0.5)
    spread = autoregressive(1, 4000, 3, pull=0.5)[:, 2].std()
    values[:, 2] += sigma * spread * np.minimum(np.arange(rows) / over, 1.0)
    return values


def small_world(ambient: str) -> World:
    text = configuration_text(2, 16, "{mewma: {}}", "    drift: {recentring: {epoch: 200}}", nu=0.02)
    text = text.replace(
        "    window:", f"      s2: {{unit: Cel, range: [-1000, 1000], {ambient}}}\n    window:", 1
    )
    history = {f"plant/{n}": autoregressive(n, 6000, 3, pull=0.5) for n in range(2)}
    return world(text, [batch_of(history)])


@pytest.fixture(scope="module")
def followed() -> World:
    return small_world("role: ambient, recentre: true")


@pytest.fixture(scope="module")
def left_alone() -> World:
    return small_world("role: ambient")


def told(records: list[OutRecord], channel: Channel, what: str) -> list[dict[str, Any]]:
    events = (msgspec.json.decode(r.value or b"") for r in records if r.channel is channel)
    return [event["data"] for event in events if event["type"] == f"nuwatch.{what}.v1"]


def rate(trace: Trace) -> float:
    late = slice(6000, None)
    return float((trace.ratio[late][trace.scored[late]] > 1.0).mean())


def test_a_sensor_that_wanders_slowly_is_followed_told_of_and_still_seen(
    followed: World, left_alone: World
) -> None:
    stream = batch_of({"plant/0": wandering(10, 10_000, 1.6, 5000)})
    records, trace = run(followed.pipeline(), stream)
    _, without = run(left_alone.pipeline(), stream)
    moves = told(records, Channel.THRESHOLDS, "recentring")
    assert {each["sensor"] for move in moves for each in move["sensors"]} == {"s2"}
    last = moves[-1]["sensors"][0]["after"]
    assert 1.1 < last < 1.9
    np.testing.assert_allclose(trace.centre[-1, :2], 0.0)
    spread = trace.centre[-1, 2] / last
    assert spread == pytest.approx(autoregressive(1, 4000, 3, pull=0.5)[:, 2].std(), rel=0.1)
    drifts = [
        a for a in told(records, Channel.ALERTS, "alert") if a["kind"] == "DRIFT" and a["event"] == "RAISED"
    ]
    assert "s2" in {alert["subject"] for alert in drifts}
    assert rate(trace) < 0.04
    assert np.isfinite(without.ratio).sum() == np.isfinite(trace.ratio).sum()
    np.testing.assert_allclose(without.centre, 0.0)


def test_expected_values_and_bands_follow_with_the_centre(followed: World) -> None:
    stream = batch_of({"plant/0": wandering(10, 10_000, 1.6, 5000)})
    _, trace = run(followed.pipeline(), stream)
    late = slice(8000, None)
    inside = (trace.observed[late] >= trace.low[late]) & (trace.observed[late] <= trace.high[late])
    assert (inside.mean(axis=0) > 0.9).all()


def test_a_sensor_that_fails_at_once_teaches_nothing(followed: World) -> None:
    values = autoregressive(11, 6000, 3, pull=0.5)
    values[3000:, 2] += 15.0
    records, trace = run(followed.pipeline(), batch_of({"plant/0": values}))
    after = trace.centre[trace.scored][-2000:, 2]
    assert np.ptp(after) == 0.0
    assert abs(after[0]) < 0.6 * autoregressive(1, 4000, 3, pull=0.5)[:, 2].std()
    anomalies = [a for a in told(records, Channel.ALERTS, "alert") if a["kind"] == "ANOMALY"]
    assert anomalies[-1]["state"] == "OPEN"


def test_cuts_neighbours_and_restarts_change_nothing_with_re_centring_on(followed: World) -> None:
    values = {f"plant/{n}": wandering(20 + n, 3000, 1.6 - n, 1500) for n in range(3)}
    stream = batch_of(values)
    records, trace = run(followed.pipeline(), stream)
    assert told(records, Channel.THRESHOLDS, "recentring")
    whole, centres = by_asset(trace), trace.centre
    cuts = sorted(np.random.default_rng(2).choice(len(stream.time), 25, replace=False).tolist())
    stored: dict[str, bytes] = {}

    def restarted(pipeline):
        stored.update(pipeline.dump())
        fresh = followed.pipeline()
        fresh.load(dict(reversed(stored.items())))
        return fresh

    again, cut = run(followed.pipeline(), stream, cuts, restarted)
    assert by_asset(cut) == whole
    np.testing.assert_array_equal(cut.centre, centres)
    assert sorted(again) == sorted(records)
    alone, single = run(followed.pipeline(), batch_of({"plant/1": values["plant/1"]}))
    assert by_asset(single)["plant/1"] == whole["plant/1"]
    assert len(alone) == sum(record.key == b"plant/1" for record in records)


def test_a_pass_holds_slots_of_one_epoch_per_asset(followed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = followed.pipeline()
    fold = pipeline._folds["unit"]
    seen: list[Slots] = []
    score = fold._score
    monkeypatch.setattr(
        fold, "_score", lambda slots, contexts: (seen.append(slots), score(slots, contexts))[1]
    )
    run(pipeline, batch_of({f"plant/{n}": autoregressive(n, 1000, 3) for n in range(2)}))
    for slots in seen:
        for row in np.unique(slots.row):
            assert len(np.unique(slots.slot[slots.row == row] // 200)) == 1
    assert sum(len(slots.row) for slots in seen) > 1900
