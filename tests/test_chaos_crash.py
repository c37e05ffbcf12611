"""The fault suite's crash rows: SIGKILL at random moments and at named points, SIGTERM under load, damaged state.

Short here, in full by `make chaos`; what is promised and what was measured is in docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.durable.database import NAME
from monitor.warm_up import warm_up_ns
from tests.broker import Broker
from tests.chaos import ASSETS, DRAIN_S, FOREVER, LENGTH, SENSORS, Life, Rig, trained
from tests.chaos_daemon import POINTS
from tests.kafka_reader import everything
from tests.worlds import SECOND, autoregressive

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]

MakeRig = Callable[..., Rig]


# -- SIGKILL --------------------------------------------------------------------------------------------------

ROWS_PER_LIFE = 12
MOST_ROWS = 60
"""Of one life: until a named point is passed a life is fed on."""


def test_killed_at_random_moments_and_named_points_nothing_is_lost_or_invented(
    rig: MakeRig, repetitions: Callable[[int], int]
) -> None:
    """Half of the lives end at a random moment, from their first import on, the others at each named point in turn."""
    times = repetitions(20)
    plant = rig(MOST_ROWS * (times + 1))
    for number in range(times):
        plant.feed(ROWS_PER_LIFE)
        if number % 2:
            kill_at(plant, POINTS[number // 2 % len(POINTS)])
        else:
            kill(plant)
        plant.check_offsets()
    plant.feed(ROWS_PER_LIFE)
    plant.finish()
    print(f"killed {plant.kills.total()} times: {dict(sorted(plant.kills.items()))}")
    figures = plant.check()
    print(f"against a run without a crash: {dict(figures)}")
    assert plant.kills.total() == times
    assert figures["alerts"] > times
    assert figures["decisions"] >= plant.kills["journalled"]


def kill(plant: Rig) -> None:
    """End a life with SIGKILL at a random moment."""
    life = plant.start()
    life.wait_until_over(plant.chance.uniform(0.0, 2.0 * plant.starting))
    ended = life.end(signal.SIGKILL)
    assert ended == -signal.SIGKILL, f"exit {ended}: {plant.disturbed.log[-3000:]}"
    plant.kills["a random moment"] += 1


def kill_at(plant: Rig, point: str) -> None:
    """A life that ends where a named point is passed for the first, second or third time."""
    if point in ("journalling", "journalled"):
        plant.decide()
    life = plant.start(point=point, count=plant.chance.randint(1, 3))
    plant.feed_until_over(life, ROWS_PER_LIFE)
    ended = life.wait()
    assert ended == -signal.SIGKILL, f"exit {ended}: {plant.disturbed.log[-3000:]}"
    plant.kills[point] += 1


# -- SIGTERM --------------------------------------------------------------------------------------------------


def test_stopped_under_load_it_drains_in_time_and_nothing_comes_twice(
    rig: MakeRig, repetitions: Callable[[int], int]
) -> None:
    times = max(3, repetitions(3) // 10)
    plant = rig(80 * (times + 1))
    for _ in range(times):
        plant.feed(80)
        life = plant.start()
        plant.wait_for_progress(life)
        begun = time.monotonic()
        assert life.end(signal.SIGTERM) == 0, plant.disturbed.log[-3000:]
        assert time.monotonic() - begun < DRAIN_S
        told = {partition: at for partition, at in plant.committed().items() if at}
        assert plant.positions() == told, "a stop in order leaves nothing to be told"
    plant.feed(80)
    plant.finish()
    print(f"stopped {times} times: {dict(plant.check(duplicates=False))}")


def ready(plant: Rig) -> tuple[int, str]:
    """Status and body of the daemon's /readyz; (0, '') where nobody answers."""
    told = re.search(r'"address": "([^"]+)", "event": "pages"', plant.disturbed.log)
    if told is None:
        return 0, ""
    try:
        with urllib.request.urlopen(f"http://{told[1]}/readyz", timeout=5) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_asked_to_stop_it_is_not_ready_before_it_ends_and_waits_for_a_broker_that_does_not_answer(
    rig: MakeRig, disk_broker: Broker
) -> None:
    plant = rig(160)
    plant.feed(80)
    open_pages = plant.disturbed.folder / "pages.yaml"
    text = (plant.disturbed.folder / "plant.yaml").read_text()
    open_pages.write_text(text.replace("{http: {enabled: false}}", "{http: {port: 0}}"))
    life = plant.start(config=open_pages.name)
    plant.wait_for_progress(life)
    wait_until(lambda: ready(plant)[0] == 200, life, plant)
    disk_broker.freeze()
    try:
        life.signal(signal.SIGTERM)
        wait_until(lambda: ready(plant)[0] == 503, life, plant)
        assert '"DRAINING"' in ready(plant)[1]
    finally:
        disk_broker.thaw()
    assert life.wait() == 0, plant.disturbed.log[-3000:]
    assert ready(plant) == (0, "")
    plant.feed(80)
    plant.finish()
    print(f"stopped in view: {dict(plant.check(duplicates=False))}")


def wait_until(holds: Callable[[], bool], life: Life, plant: Rig) -> None:
    deadline = time.monotonic() + FOREVER
    while not holds():
        assert not life.over, f"exit {life.wait()}: {plant.disturbed.log[-3000:]}"
        assert time.monotonic() < deadline, plant.disturbed.log[-3000:]
        time.sleep(0.02)


# -- the state file -------------------------------------------------------------------------------------------


def ran_half(rig: MakeRig, rows: int = 200, state: str = "") -> Rig:
    plant = rig(rows, state=state)
    plant.feed(rows // 2)
    plant.finish()
    plant.feed(rows // 2)
    return plant


def truncated(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def flipped(path: Path, chance: random.Random) -> None:
    """Bits all over the file: some hit what matters."""
    raw = bytearray(path.read_bytes())
    for _ in range(20):
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    path.write_bytes(raw)


@pytest.mark.parametrize("damage", [truncated, flipped])
def test_damaged_state_is_set_aside_and_rebuilt_and_no_window_is_missing(
    rig: MakeRig, damage: Callable[[Path, random.Random], None]
) -> None:
    plant = ran_half(rig)
    stood = plant.positions()
    path = plant.disturbed.state / NAME
    damage(path, plant.chance)
    plant.finish()
    assert "state_damaged_rebuilding" in plant.disturbed.log
    plant.finish(plant.whole)
    windows = {(asset, end) for asset, end, _ in plant.disturbed.ledger()}
    assert windows == {(asset, end) for asset, end, _ in plant.whole.ledger()}
    plant.check_offsets()
    assert plant.positions() == plant.ends()
    assert all(plant.positions()[p] > at for p, at in stood.items())


POLLED = 25
"""The rig's `max_poll_records`."""


def events(plant: Rig, channel: str) -> list[dict[str, Any]]:
    """Everything that a topic of CloudEvents holds, in order; what the daemon says of itself is left out."""
    found = everything(plant.broker.bootstrap, plant.disturbed.topics[channel])
    bodies = [json.loads(record.value) for record in found]
    return [body for body in bodies if body["data"].get("kind") != "MONITOR_HEALTH"]


def test_a_rebuild_takes_open_incidents_and_limits_from_the_topics_and_says_what_is_rebuilt(
    rig: MakeRig,
) -> None:
    """An anomaly has been open since long before the stretch that is folded again; then it ends."""
    plant = rig(320)
    values = plant.values[ASSETS[0]]
    values[:] = autoregressive(7, len(values), SENSORS, 0.5)
    values[30:280, 1] += 8.0
    plant.feed(240, as_time_went=True)
    plant.finish()
    stood, told = plant.positions(), events(plant, "alerts")
    versions = {
        e["subject"]: e["data"]["version"] for e in events(plant, "thresholds") if "version" in e["data"]
    }
    assert versions, "no limit has moved"
    (plant.disturbed.state / NAME).write_bytes(b"\x00" * 5000)

    plant.feed(80, as_time_went=True)
    plant.finish()
    assert "state_damaged_rebuilding" in plant.disturbed.log
    assert plant.positions() == plant.ends()
    plant.finish(plant.whole)
    whole = {(asset, end) for asset, end, _ in plant.whole.ledger()}
    ledger = plant.disturbed.ledger()
    assert {(asset, end) for asset, end, _ in ledger} == whole
    again = (len(ledger) - len(whole)) / len(ASSETS)
    assert again == pytest.approx(warm_up_ns(trained().settings) / SECOND, abs=LENGTH), "seconds folded again"

    alerts = events(plant, "alerts")
    later = alerts[len(told) :]
    behind = [
        (bool(e.get("nuwatchrebuilt")), int(e["nuwatchoffset"]) - stood[e["nuwatchpartition"]]) for e in later
    ]
    flagged = [far for yes, far in behind if yes]
    assert flagged
    assert max(flagged) < POLLED, "of the stretch, and of the poll in which it ends"
    assert all(far >= 0 for yes, far in behind if not yes)
    assert not any(e.get("nuwatchrebuilt") for e in told)

    mine = [e for e in alerts if (e["subject"], e["data"]["kind"]) == (ASSETS[0], "ANOMALY")]
    (opened,) = {e["data"]["incident_id"] for e in mine}
    assert [int(e["sequence"]) for e in mine] == list(range(1, len(mine) + 1))
    assert mine[-1]["data"]["event"] == "CLEARED"
    assert {e["data"]["incident_id"] for e in told if e in mine} == {opened}
    later_versions = [
        (e["subject"], e["data"]["score"]["threshold_version"]) for e in later if e["data"].get("score")
    ]
    assert any(asset in versions for asset, _ in later_versions)
    assert [pair for pair in later_versions if pair[1] < versions.get(pair[0], 0)] == []


class Mounts:
    """File systems over folders, as far as we have the right to mount."""

    def __init__(self) -> None:
        self._mounted: list[Path] = []

    def mount(self, folder: Path, *options: str) -> None:
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting needs more rights: {done.stderr.decode().strip()}")
        if folder not in self._mounted:
            self._mounted.append(folder)

    def read_only(self, folder: Path) -> None:
        self.mount(folder, "--bind", str(folder))
        self.mount(folder, "-o", "remount,bind,ro")

    def small(self, folder: Path, size: int) -> None:
        """Put a folder with what is in it onto a file system of so many bytes."""
        aside = folder.with_name("aside")
        shutil.copytree(folder, aside)
        self.mount(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")
        shutil.copytree(aside, folder, dirs_exist_ok=True)

    def undo(self) -> None:
        while self._mounted:
            subprocess.run(["umount", str(self._mounted.pop())], check=False)


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    made = Mounts()
    yield made
    made.undo()


def test_a_full_disk_stops_it_with_74_and_once_there_is_room_nothing_is_lost(
    rig: MakeRig, mounts: Mounts
) -> None:
    plant = ran_half(rig)
    before = plant.positions()
    mounts.small(plant.disturbed.state, 2**21)
    ballast = plant.disturbed.state / "ballast"
    free = shutil.disk_usage(plant.disturbed.state).free
    ballast.write_bytes(b"\x00" * (free - 12 * 4096))  # some commits fit: it is full in the midst of the work
    life = plant.start()
    assert life.wait() == 74, plant.disturbed.log[-3000:]
    assert "cannot write the state" in plant.disturbed.log
    ballast.unlink()
    plant.check_offsets()
    assert all(plant.positions()[p] >= at for p, at in before.items())
    plant.finish()
    print(f"full disk: {dict(plant.check())}")


def test_a_read_only_state_stops_it_with_74_and_later_nothing_is_lost(rig: MakeRig, mounts: Mounts) -> None:
    plant = ran_half(rig)
    before = plant.positions()
    mounts.read_only(plant.disturbed.state)
    life = plant.start()
    assert life.wait() == 74, plant.disturbed.log[-3000:]
    mounts.undo()
    assert plant.positions() == before
    plant.check_offsets()
    plant.finish()
    print(f"read-only: {dict(plant.check())}")
