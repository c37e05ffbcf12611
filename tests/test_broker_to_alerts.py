"""The main job on a real broker: history from a topic, the daemon as a process, killed and started again, alerts
read from their topic, and the same incidents from a replay of the same files."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.kafka import SinkTopics
from tests.broker import AnyBroker, produce
from tests.data import data_folder
from tests.kafka_reader import everything

pytestmark = pytest.mark.kafka

FILES = ("valve1/0.csv", "valve1/1.csv", "other/9.csv")
TAGS = (
    "Accelerometer1RMS",
    "Accelerometer2RMS",
    "Current",
    "Pressure",
    "Temperature",
    "Thermocouple",
    "Voltage",
    "Volume Flow RateRMS",
)
CONFIG = """
site: rig
source:
  kind: kafka
  bootstrap_servers: [{bootstrap}]
  topic: {sensors}
  group: nuwatch-test
sink:
  kind: kafka
  bootstrap_servers: [{bootstrap}]
  topics: {{alerts: {alerts}, thresholds: {thresholds}, dead_letter: {dead_letter}}}
recordings:
  paths: [{recordings}]
  delimiter: ";"
  time: {{column: datetime, zone: UTC}}
  asset_column: asset
state: {{interval: 500ms}}
asset_classes:
  loop:
    assets: ["skab/*"]
    sampling: 1s
    sensors:
      vibration_1: {{unit: "1", tag: Accelerometer1RMS}}
      vibration_2: {{unit: "1", tag: Accelerometer2RMS}}
      current: {{unit: A, tag: Current}}
      pressure: {{unit: bar, tag: Pressure}}
      temperature: {{unit: Cel, tag: Temperature}}
      thermocouple: {{unit: Cel, tag: Thermocouple}}
      voltage: {{unit: V, tag: Voltage}}
      flow: {{unit: L/min, tag: Volume Flow RateRMS}}
    time: {{lateness: 2s, max_age: 5s, silence: 2min}}
    window: {{length: 20}}
    scoring:
      scorers: {{pca: {{}}, var: {{}}}}
    calibration: {{nu: 0.02, enough: 1}}
    alerting: {{on_delay: 5s, off_delay: 20s}}
"""


def frames(path: Path, asset: str) -> Iterator[tuple[bytes, bytes]]:
    """Rows of a SKAB file as frame records in its real column names."""
    with path.open() as file:
        for row in csv.DictReader(file, delimiter=";"):
            frame: dict[str, Any] = {"asset": asset, "ts": row["datetime"].replace(" ", "T") + "Z"}
            frame["values"] = {tag: float(row[tag]) for tag in TAGS}
            yield asset.encode(), msgspec.json.encode(frame)


def recordings(folder: Path, sources: dict[str, Path]) -> Path:
    """The same rows as files with an asset column."""
    folder.mkdir()
    for asset, path in sources.items():
        header, *lines = path.read_text().splitlines()
        rows = [f"asset;{header}", *(f"{asset};{line}" for line in lines)]
        (folder / f"{asset.replace('/', '-')}.csv").write_text("\n".join(rows) + "\n")
    return folder


def nuwatch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "monitor", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done


class Daemon:
    """`nuwatch run` as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "daemon.log"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "monitor", "run", "plant.yaml", "--start", "earliest", "--verbose"],
                cwd=self.folder,
                env=environment,
                stderr=log,
            )

    def snapshots(self) -> int:
        return self.log.read_text().count('"event": "snapshot"')

    def wait_for_snapshots(self, count: int) -> None:
        until = time.monotonic() + 120
        while self.snapshots() < count and time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        assert self.snapshots() >= count, self.log.read_text()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def restart(self) -> None:
        self.process = self._start()


@pytest.fixture
def daemon() -> Iterator[Callable[[Path], Daemon]]:
    started: list[Daemon] = []

    def start(folder: Path) -> Daemon:
        started.append(Daemon(folder))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def test_the_daemon_killed_twice_gives_the_incidents_of_a_replay(
    tmp_path: Path,
    kafka_broker: AnyBroker,
    new_topic: Callable[..., str],
    kafka_topics: SinkTopics,
    daemon: Callable[[Path], Daemon],
) -> None:
    skab = data_folder("skab")
    history, sensors = new_topic(1), new_topic(3)
    text = CONFIG.format(
        bootstrap=kafka_broker.bootstrap,
        sensors=sensors,
        recordings=str(tmp_path / "recordings" / "*.csv"),
        alerts=kafka_topics.alerts,
        thresholds=kafka_topics.thresholds,
        dead_letter=kafka_topics.dead_letter,
    )
    (tmp_path / "plant.yaml").write_text(text)
    (tmp_path / "history.yaml").write_text(
        text.replace(sensors, history).split("recordings:")[0] + "state:" + text.split("state:")[1]
    )
    live = {f"skab/{name[:-4].replace('/', '-')}": skab / name for name in FILES}
    recordings(tmp_path / "recordings", live)

    produce(
        kafka_broker.bootstrap,
        history,
        list(frames(skab / "anomaly-free" / "anomaly-free.csv", "skab/normal")),
    )
    trained = nuwatch(tmp_path, "train", "history.yaml", "--allow-uncalibrated")
    assert "bundle" in trained.stdout

    rows = [list(frames(path, asset)) for asset, path in live.items()]
    third = len(rows[0]) // 3
    watched = daemon(tmp_path)
    watched.wait_for_snapshots(2)
    for number in range(3):
        cut = slice(number * third, (number + 1) * third if number < 2 else None)
        produce(kafka_broker.bootstrap, sensors, [record for part in rows for record in part[cut]])
        watched.wait_for_snapshots(watched.snapshots() + 3)
        if number == 0:
            assert watched.end(signal.SIGKILL) != 0
            watched.restart()
        elif number == 1:
            assert watched.end(signal.SIGTERM) == 0
            watched.restart()
    watched.wait_for_snapshots(watched.snapshots() + 4)
    assert watched.end(signal.SIGTERM) == 0

    published = [
        msgspec.json.decode(r.value) for r in everything(kafka_broker.bootstrap, kafka_topics.alerts)
    ]
    live_alerts = {event["id"]: event["data"] for event in published}
    assert len(live_alerts) == len(published), "an alert was sent twice although the topic already had it"

    nuwatch(tmp_path, "replay", "plant.yaml", "--alerts", "replayed.jsonl")
    replayed = [msgspec.json.decode(line) for line in (tmp_path / "replayed.jsonl").read_bytes().splitlines()]
    assert len(replayed) > 3
    assert {event["id"]: event["data"] for event in replayed} == live_alerts
