"""Commands for daemons that share a topic: whoever has a partition, a command acts on it once, at one place.

What must come out is computed from the journal in the changelog by one engine that nobody disturbs. Short here;
``--chaos N`` kills N times, and ``--seed`` chooses when and whom.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.kafka import SinkTopics
from monitor.checkpoint import Entry
from monitor.commands import command_of
from monitor.control import Command, NewConfiguration
from monitor.generation import Change
from monitor.journal import read_journal
from monitor.thresholds.decisions import Decision
from tests.broker import AnyBroker, produce
from tests.chaos import Launcher
from tests.shared_plant import PARTITIONS, SharedPlant, stream
from tests.test_broker_to_alerts import nuwatch

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(7200)]

PAUSE_S = 5.0
AT = "2026-07-01T09:00:00Z"


@pytest.fixture
def plant(
    tmp_path: Path,
    kafka_broker: AnyBroker,
    new_topic: Callable[..., str],
    kafka_topics: SinkTopics,
    launcher: Launcher,
) -> Iterator[SharedPlant]:
    made = SharedPlant(
        tmp_path, kafka_broker.bootstrap, new_topic, kafka_topics, launcher, control=new_topic()
    )
    yield made
    made.close()


def journals(plant: SharedPlant) -> dict[int, list[Entry]]:
    nuwatch(plant.folder, "state", "export", "journal.jsonl", "--config", "plant.yaml")
    return read_journal(plant.folder / "journal.jsonl")


def refusal(content: bytes | None) -> bool:
    """Whether this answers a configuration that was not taken: outside the fold, so no journal has it."""
    return b'"kind":"configuration"' in (content or b"") and b'"outcome":"REFUSED"' in (content or b"")


def told(plant: SharedPlant) -> list[tuple[str, int, int]]:
    """Outcome, command and partition of every answer, repeated ids once."""
    data = {
        name: json.loads(content or b"{}")
        for channel, name, content in plant.published()
        if channel == "thresholds"
    }
    return sorted((e["outcome"], e["control"], e["partition"]) for e in data.values() if "control" in e)


def test_commands_act_once_on_every_partition_whoever_is_killed_meanwhile(
    plant: SharedPlant, request: pytest.FixtureRequest
) -> None:
    kills = int(request.config.getoption("--chaos", 0)) or 3
    seed = int(request.config.getoption("--seed", 20261127))
    print(f"--seed {seed}")
    chance = random.Random(seed)
    records = stream(rows=max(240, 40 * (kills + 1)), seed=seed)
    share = len(records) // (kills + 1)
    members = [plant.start(f"member-{n}") for n in range(2)]
    plant.wait(
        lambda: sum(len(m.said("partition_begun")) for m in members) == PARTITIONS, 90, "the first assignment"
    )
    good = (plant.folder / "plant.yaml").read_text()
    for round_ in range(kills):
        feed = plant.feed(records[round_ * share :][:share], per_second=share / PAUSE_S)
        time.sleep(chance.uniform(0.3, 0.6) * PAUSE_S)
        plant.command(Command(decision=Decision(f"plant/{round_ % 12}", "approve", "J. Roe", AT)))
        changed = good.replace("on_delay: 2s", f"on_delay: {3 + round_ % 3}s")
        last = plant.command(Command(configuration=NewConfiguration(changed, "J. Roe", AT)))
        time.sleep(chance.uniform(0.0, 0.6) * PAUSE_S)
        victim = chance.randrange(2)
        members[victim].end(signal.SIGKILL)
        members[victim] = plant.start(f"member-{victim}")
        feed.join()
    plant.wait(
        lambda: (
            {p for outcome, command, p in told(plant) if (outcome, command) == ("APPLIED", last)}
            == set(range(PARTITIONS))
        ),
        120,
        "the last configuration to be in force everywhere",
    )
    # Whoever takes a partition over in the middle of the last records repeats them, and a decision waits for the next.
    plant.wait(
        lambda: all(m.said("partition_taken") or m.said("partition_begun") for m in members),
        120,
        "partitions for the member that was killed last",
    )
    plant.feed(records[kills * share :]).join()  # what is commanded acts in front of a record
    plant.wait_until_folded(records, 90 + 10 * kills)
    assert [member.end(signal.SIGTERM) for member in members] == [0, 0], plant.logs()

    found = journals(plant)
    expected, out = plant.expected(records, found), plant.published()
    mine = [one for one in out if not refusal(one[2])]
    lost = expected.keys() - {(channel, name) for channel, name, _ in mine}
    invented = [one for one in mine if one[:2] not in expected]
    assert (lost, invented) == (set(), [])
    assert [one for one in mine if expected[one[:2]] != one[2]] == []
    twice = len(mine) - len(expected)
    entries = [(p, entry) for p, its in found.items() for entry in its]
    decisions = Counter(entry.id for _, entry in entries if isinstance(command_of(entry), Decision))
    assert decisions == Counter(dict.fromkeys(decisions, 1))
    assert len(decisions) == kills
    for partition, its in found.items():
        positions = [entry.position for entry in its]
        assert positions == sorted(positions), (partition, positions)
        changes = [command for entry in its if isinstance(command := command_of(entry), Change)]
        offsets = [change.told.offset for change in changes if change.told is not None]
        assert offsets == sorted(set(offsets)), "none twice, and none after a newer one"
        assert offsets[-1] == last
    print(f"{kills} kills, {len(entries)} entries, {twice} records twice")


def test_a_daemon_that_joins_later_takes_partitions_under_the_command_that_is_in_force(
    plant: SharedPlant,
) -> None:
    """Its own file says otherwise; and what is refused is answered once, by whoever has the first partition."""
    records = stream(rows=240, seed=3)
    third = len(records) // 3
    one = plant.start("one")
    plant.wait(lambda: len(one.said("partition_begun")) == PARTITIONS, 90, "the assignment")
    plant.feed(records[:third]).join()
    plant.wait_until_folded(records[:third], 60)
    good = (plant.folder / "plant.yaml").read_text()
    (plant.folder / "changed.yaml").write_text(good.replace("on_delay: 2s", "on_delay: 5s"))
    nuwatch(plant.folder, "apply", "changed.yaml", "--by", "J. Roe")
    produce(plant.bootstrap, str(plant.control), [(None, b"no command", 0)])
    plant.wait(lambda: len(told(plant)) == PARTITIONS + 1, 60, "the answers")
    one.signal(signal.SIGHUP)
    plant.wait(lambda: bool(one.said("configuration_refused")), 30, "SIGHUP to be refused")

    two = plant.start("two")
    plant.wait(lambda: len(two.said("partition_taken")) == PARTITIONS // 2, 90, "half of the partitions")
    plant.feed(records[third : 2 * third]).join()
    plant.wait_until_folded(records[: 2 * third], 60)
    assert one.end(signal.SIGKILL) != 0
    plant.wait(lambda: len(two.said("partition_taken")) == PARTITIONS, 90, "the others")
    plant.feed(records[2 * third :]).join()
    plant.wait_until_folded(records, 60)
    assert two.end(signal.SIGTERM) == 0, plant.logs()

    assert two.said("command_refused"), "it reads the same topic"
    assert two.said("configuration_adopted") == [], "the partitions bring the configuration with them"
    assert told(plant) == [*(("APPLIED", 0, p) for p in range(PARTITIONS)), ("REFUSED", 1, 0)]
    found = journals(plant)
    assert [len(its) for its in found.values()] == [2] * PARTITIONS
    plant_expected = plant.expected(records, found)
    seen = {(channel, name): content for channel, name, content in plant.published()}
    refused = {key for key, content in seen.items() if b'"outcome":"REFUSED"' in (content or b"")}
    letters = {key for key in seen if key[0] == "dead_letter" and str(plant.control) in key[1]}
    assert len(refused) == len(letters) == 1
    assert {key: content for key, content in seen.items() if key not in refused | letters} == plant_expected
