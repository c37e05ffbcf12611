"""Daemons that share a topic, as processes that are killed, stopped, cut off: rows of the fault suite.

Short here; ``--chaos N`` kills N times, and ``--seed`` chooses when and whom.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.kafka import SinkTopics
from tests.broker import AnyBroker
from tests.chaos import Launcher
from tests.shared_plant import PARTITIONS, SharedPlant, stream

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(7200)]

PAUSE_S = 5.0


@pytest.fixture
def plant(
    tmp_path: Path,
    kafka_broker: AnyBroker,
    new_topic: Callable[..., str],
    kafka_topics: SinkTopics,
    launcher: Launcher,
) -> Iterator[SharedPlant]:
    made = SharedPlant(tmp_path, kafka_broker.bootstrap, new_topic, kafka_topics, launcher)
    yield made
    made.close()


def test_three_members_that_are_killed_and_come_back_lose_nothing_and_invent_nothing(
    plant: SharedPlant, request: pytest.FixtureRequest
) -> None:
    kills = int(request.config.getoption("--chaos", 0)) or 2
    seed = int(request.config.getoption("--seed", 20261127))
    print(f"--seed {seed}")
    chance = random.Random(seed)
    records = stream(rows=max(200, 40 * kills), seed=seed)
    expected = plant.expected(records)
    members = [plant.start(f"member-{n}") for n in range(3)]
    plant.wait(
        lambda: sum(len(m.said("partition_begun")) for m in members) == PARTITIONS, 90, "the first assignment"
    )

    feed = plant.feed(records, per_second=len(records) / (kills * PAUSE_S))
    for _ in range(kills):
        time.sleep(chance.uniform(0.6, 1.4) * PAUSE_S)
        victim = chance.randrange(3)
        members[victim].end(signal.SIGKILL)
        members[victim] = plant.start(f"member-{victim}")
    feed.join()
    plant.wait_until_folded(records, 60 + 10 * kills)
    plant.wait(lambda: all(member.said("started") for member in members), 60, "the last one to come back")
    assert [member.end(signal.SIGTERM) for member in members] == [0, 0, 0], plant.logs()
    twice = plant.check(expected)
    checkpoints = sum(map(len, plant.markers().values()))
    print(f"{kills} kills, {len(expected)} ids, {twice} records twice, {checkpoints} checkpoints")


def test_a_stopped_process_that_wakes_up_publishes_nothing_and_joins_anew(plant: SharedPlant) -> None:
    records = stream(rows=400, seed=7)
    expected = plant.expected(records)
    half = len(records) // 2
    zombie = plant.start("zombie")
    plant.wait(lambda: len(zombie.said("partition_begun")) == PARTITIONS, 90, "the assignment")
    plant.feed(records[:half]).join()
    plant.wait(lambda: min(plant.positions().values()) > 100, 60, "it to be in the middle of things")
    zombie.signal(signal.SIGSTOP)

    heir = plant.start("heir")
    plant.wait(lambda: len(heir.said("partition_taken")) == PARTITIONS, 90, "the heir to take over")
    plant.feed(records[half:]).join()
    plant.wait_until_folded(records, 60)
    before, checkpoints = plant.published(), plant.markers()

    zombie.signal(signal.SIGCONT)
    plant.wait(lambda: bool(zombie.said("partition_taken")), 60, "the zombie to be a member again")
    assert plant.published() == before, "it has published after it had lost its partitions"
    assert all(plant.markers()[p][: len(at)] == at for p, at in checkpoints.items())
    assert zombie.said("partitions_lost") or zombie.said("transaction_aborted")
    assert [zombie.end(signal.SIGTERM), heir.end(signal.SIGTERM)] == [0, 0], plant.logs()
    assert plant.check(expected) == 0
