"""A rig that really drifts: SKAB's anomaly-free run after a warm-up of 1,500 rows, through the whole pipeline.

Nothing is at fault in it, and its sensors go up to 10 sigma from where they were in the warm-up: what a monitor does
with that is shown, not what it should find. One bundle; the ways differ in what is re-centred.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace

from benchmarks.detection.contract import Bar, Table
from benchmarks.detection.data import data_folder
from connectors.records import Channel, OutRecord
from monitor.settings import Recentring
from monitor.thresholds import recentring
from monitor.trace import Trace
from tests.worlds import World, batch_of, run, world

_WARM_UP = 1500
_NO_CAP = 1e6


class Way(NamedTuple):
    """How the rig is monitored.

    Attributes:
        recentre: every sensor, by an explicit flag.
        epoch: of re-centring, in rows.
        rate: share of the difference that one epoch makes up.
        most: the cap, in sigma; above 2 it is not offered.
    """

    recentre: bool
    epoch: int = 600
    rate: float = 0.25
    most: float = 2.0


WAYS: Mapping[str, Way] = {
    "default: nothing re-centred": Way(False),
    "all sensors re-centred": Way(True),
    "all sensors re-centred, every minute, all the way": Way(True, 60, 1.0),
    "the same without the cap (not offered)": Way(True, 60, 1.0, _NO_CAP),
}


class Rig(NamedTuple):
    """What a way made of the run.

    Attributes:
        rate: share of windows over the limit.
        first: the same of the first 1,000 windows.
        drifts: DRIFTs raised.
        sensors: sensors that they name.
        tracked: versions that tracking set.
        refitted: versions that a re-estimation set.
        recentred: moves of centres.
        furthest: the largest of them, in sigma.
        explained: share of re-estimations, and of moves of a sensor beyond 1 sigma, with a DRIFT by then.
        asked: decisions wanted of a person.
    """

    rate: float
    first: float
    drifts: int
    sensors: int
    tracked: int
    refitted: int
    recentred: int
    furthest: float
    explained: float
    asked: int


def rig(given: Path | None, quick: bool = False) -> dict[str, Rig]:
    """Every way, on the same bundle."""
    folder = data_folder("skab", given) / "anomaly-free"
    rows = np.genfromtxt(next(folder.glob("*.csv")), delimiter=";", skip_header=1, usecols=range(1, 9))
    trained = world(_text(), [batch_of({"rig": rows[:_WARM_UP]})])
    stream = batch_of({"rig": rows[_WARM_UP : _WARM_UP + 1500 if quick else None]})
    return {name: _figures(*_run(trained, way, stream)) for name, way in WAYS.items()}


def _text() -> str:
    sensors = "\n".join(f"      s{n}: {{unit: '1', reporting: on_change}}" for n in range(8))
    return f"""
site: skab
source: {{kind: memory}}
asset_classes:
  unit:
    assets: ["*"]
    sampling: 1s
    sensors:
{sensors}
    window: {{length: 16}}
    calibration: {{enough: 1}}
    scoring: {{scorers: {{pca: {{}}, var: {{}}}}}}
"""


def _run(trained: World, way: Way, stream: Any) -> tuple[list[OutRecord], Trace]:
    asset_class = trained.asset_class
    sensors = {name: replace(each, recentre=way.recentre) for name, each in asset_class.sensors.items()}
    settings = Recentring(epoch=way.epoch, rate=way.rate, max_total=way.most)
    drift = replace(asset_class.drift, recentring=settings)
    changed = replace(asset_class, sensors=sensors, drift=drift)
    monitor = trained._replace(
        settings=replace(trained.settings, asset_classes={"unit": changed}), asset_class=changed
    )
    cap = recentring.MOST
    recentring.MOST = max(cap, way.most)  # no setting lifts it: only this comparison does
    try:
        return run(monitor.pipeline(), stream)
    finally:
        recentring.MOST = cap


def _figures(records: list[OutRecord], trace: Trace) -> Rig:
    over = trace.ratio[trace.scored] > 1.0
    drifts = {
        (data["subject"], data["raised_at"])
        for _, data in _told(records, Channel.ALERTS, "alert")
        if data["kind"] == "DRIFT" and data["event"] == "RAISED"
    }
    versions = [data["trigger"] for _, data in _told(records, Channel.THRESHOLDS, "threshold")]
    refits = [
        at for at, data in _told(records, Channel.THRESHOLDS, "threshold") if data["trigger"] == "drift"
    ]
    moves = [
        (at, each["sensor"], abs(each["after"]))
        for at, data in _told(records, Channel.THRESHOLDS, "recentring")
        for each in data["sensors"]
    ]
    far = [(at, sensor) for at, sensor, after in moves if after > recentring.TOLD]
    explained = [any(raised <= at for _, raised in drifts) for at in refits]
    explained += [any(raised <= at and subject == sensor for subject, raised in drifts) for at, sensor in far]
    return Rig(
        rate=float(over.mean()),
        first=float(over[:1000].mean()),
        drifts=len(drifts),
        sensors=len({subject for subject, _ in drifts if subject in trace.sensors}),
        tracked=versions.count("tracking"),
        refitted=len(refits),
        recentred=len(moves),
        furthest=max((after for *_, after in moves), default=0.0),
        explained=float(np.mean(explained)) if explained else 1.0,
        asked=sum(data["outcome"] == "WANTED" for _, data in _told(records, Channel.THRESHOLDS, "decision")),
    )


def _told(records: list[OutRecord], channel: Channel, what: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for record in records:
        if record.channel is channel:
            event = msgspec.json.decode(record.value or b"")
            if event["type"] == f"nuwatch.{what}.v1":
                yield event["time"], event["data"]


def table(ways: Mapping[str, Rig]) -> Table:
    """For people."""
    columns = (
        "way",
        "over the limit",
        "first 1,000",
        "DRIFTs",
        "sensors named",
        "limits tracked",
        "re-estimated",
        "centres moved",
        "furthest, sigma",
        "explained",
        "asked",
    )
    rows = tuple(
        (name, *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in each)) for name, each in ways.items()
    )
    notes = (
        "fitted on 1,500 rows, `pca` and `var`, smoothing 0.1; the other 7,905 rows are free of faults, and up to"
        " 10 sigma off",
    )
    return Table("SKAB's anomaly-free run: a rig that really drifts", ("way", *columns[1:]), rows, notes)


def bars(ways: Mapping[str, Rig]) -> list[Bar]:
    """Its bars."""
    worst = min(each.explained for each in ways.values())
    return [
        Bar("SKAB's anomaly-free run: adaptations explained by a DRIFT", worst, 1.0),
        Bar(
            "an aim, no bar: SKAB's anomaly-free run, over the limit, re-centred within the cap",
            min(ways[name].rate for name in list(WAYS)[:3]),
            0.05,
            None,
            False,
        ),
    ]
