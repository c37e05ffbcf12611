"""The control topic: what is a command, where it acts, how it is answered; that crash and replay change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from connectors.errors import SinkError
from connectors.memory import MemoryCommandTopic, MemorySink, MemorySource
from connectors.records import Batch, Channel, OutRecord, Reason
from monitor.alerting.alerts import Origin
from monitor.checkpoint import Damaged, Entry, Heard, MemoryCheckpoint, Restored
from monitor.commands import name_of, offset_of
from monitor.configuration import parse
from monitor.control import Command, ControlTopic, NewConfiguration, Order, Rejected, parse_command
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.engine import Engine
from monitor.errors import StateError
from monitor.facts import Identity
from monitor.generation import Change, Generation
from monitor.journal import ExportedJournal, JournalledCommands
from monitor.model import Model
from monitor.pipeline import Pipeline
from monitor.quantities import iso_time
from monitor.replay import Journalled, replay
from monitor.thresholds.decisions import Decision
from tests.worlds import SECOND, START, World, autoregressive, batch_of, configuration_text, world

SENSORS, LENGTH, ROWS, CUT = 3, 8, 220, 40
POLLS = 2 * ROWS // CUT
SICK = "plant/0"
OLD = "    alerting: {on_delay: 2s, off_delay: 5s, realert: 30s}\n    drift: {samples: 60, settle: 3min}"
NEW = "    alerting: {on_delay: 4s, off_delay: 9s, realert: 10s}\n    drift: {samples: 60, settle: 3min}"
AT = iso_time(START + 79 * SECOND)


def text(extra: str) -> str:
    return configuration_text(SENSORS, LENGTH, "{pca: {}}", extra)


@pytest.fixture(scope="module")
def trained() -> World:
    history = {f"plant/{n}": autoregressive(n, 900, SENSORS, 0.5) for n in range(2)}
    return world(text(OLD), [batch_of(history)])


@pytest.fixture(scope="module")
def stream() -> Batch:
    """The first asset steps away for good: only a person can make that its normal."""
    values = {f"plant/{n}": autoregressive(50 + n, ROWS, SENSORS, 0.5) for n in range(2)}
    values[SICK][60:, 1] += 8.0
    values["plant/1"][80:120, 2] = 5000.0
    return batch_of(values)


def generation(trained: World, extra: str, order: Order | None = None) -> Generation:
    content = text(extra)
    settings = parse(content, Path("world.yaml")).settings
    model = Model(trained.trained.bundle, settings.asset_classes["unit"], trained.model.program)
    name = {OLD: "old", NEW: "new"}[extra]
    identity = {"unit": Identity(model.bundle_id, None, name)}

    def make(partition: int) -> Pipeline:
        return Pipeline(settings, {"unit": model}, partition, identity, topic="t", replay=False, version="0")

    told = order.told if order is not None else None
    return Generation(Change(name, content, {"unit": model.bundle_id}, told), make)


def decision(action: str = "approve", asset: str = SICK) -> bytes:
    return msgspec.json.encode(Command(decision=Decision(asset, action, "J. Roe", AT)))  # type: ignore[arg-type]


def configuration(extra: str = NEW, by: str = "J. Roe") -> bytes:
    return msgspec.json.encode(Command(configuration=NewConfiguration(text(extra), by, AT)))


class Daemon:
    """An engine with a control topic, as `nuwatch run` puts it together; a new one on the same state is a restart."""

    def __init__(
        self,
        trained: World,
        stream: Batch,
        folder: Path,
        sink: MemorySink,
        topic: MemoryCommandTopic,
        file: str = OLD,
    ) -> None:
        self.control = ControlTopic(
            topic,
            "commands",
            ["plant/*"],
            "/nuwatch/test",
            Origin("t", 0, 0, False, "0"),
            10_000,
            structlog.get_logger(),
        )
        self.checkpoint = SqliteCheckpoint(folder, sink)
        now = generation(trained, file)
        self.commands = JournalledCommands([self.control], self.checkpoint.journal)
        self.engine = Engine(
            MemorySource([stream], cuts=(CUT,)),
            self.checkpoint,
            now.pipeline_of,
            now.bundles,
            self.commands,
            control=self.control,
        )
        self._trained = trained
        self.engine.in_force(now.change, self.made)
        self.engine.open("earliest")

    def made(self, change: Change) -> Generation:
        extra = {text(OLD): OLD, text(NEW): NEW}[change.text]
        return generation(self._trained, extra)._replace(change=change)

    def carry_out(self) -> None:
        """What the reloader does with an order, at once."""
        order = self.control.order()
        if order is not None:
            self.engine.adopt(generation(self._trained, NEW, order))
            self.control.settle(order)

    def finish(self) -> None:
        while not self.engine.exhausted:
            self.engine.step(0.0)
        self.engine.snapshot()
        self.engine.close()


def events(records: Iterable[OutRecord], kind: str) -> list[dict[str, Any]]:
    found = [msgspec.json.decode(r.value or b"") for r in records if r.channel is Channel.THRESHOLDS]
    return [event for event in found if event["type"] == f"nuwatch.{kind}.v1"]


def answers(records: Iterable[OutRecord]) -> list[tuple[str, int, str]]:
    """Outcome, offset in the control topic, and kind."""
    data = [event["data"] for event in events(records, "answer")]
    return [(each["outcome"], each["control"], each["kind"] or "-") for each in data]


def plain(records: Sequence[OutRecord]) -> list[tuple[str, bytes]]:
    return sorted((r.id, r.value or b"") for r in records)


def journal(folder: Path) -> tuple[Entry, ...]:
    checkpoint = SqliteCheckpoint(folder, MemorySink())
    restored = checkpoint.restore(0)
    checkpoint.close()
    assert isinstance(restored, Restored)
    return restored.journal


# -- what is a command ----------------------------------------------------------------------------------------


def test_a_command_is_a_decision_or_a_configuration() -> None:
    one = parse_command(decision("rollback"), 1000)
    assert one == Command(decision=Decision(SICK, "rollback", "J. Roe", AT))
    two = parse_command(configuration(), 10_000).configuration
    assert two is not None
    assert (two.text, two.bundles) == (text(NEW), {})


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (None, Reason.EMPTY, "empty record"),
        (b"", Reason.EMPTY, "empty record"),
        (b"x" * 1001, Reason.TOO_LARGE, "got 1001 bytes, expected at most 1000"),
        (b"{", Reason.MALFORMED, "expected a command as JSON"),
        (b'{"decision": {"asset": "\xff"}}', Reason.MALFORMED, "expected a command as JSON"),
        (b"[" * 900, Reason.WRONG_TYPE, "array"),
        (b"{}", Reason.MISSING_FIELD, "neither a `decision` nor a `configuration`"),
        (b'{"decision": {"asset": "a"}}', Reason.MISSING_FIELD, "action"),
        (b'{"decision": 5}', Reason.WRONG_TYPE, "object"),
        (b'{"reload": {}}', Reason.WRONG_TYPE, "reload"),
        (
            b'{"decision": {"asset": "a", "action": "aprove", "by": "J", "at": "2025-10-09T08:53:20Z"}}',
            Reason.WRONG_TYPE,
            "aprove",
        ),
        (
            b'{"decision": {"asset": "a", "action": "approve", "by": "J", "at": "yesterday"}}',
            Reason.BAD_TIME,
            "yesterday",
        ),
        (
            b'{"decision": {"asset": "a", "action": "approve", "by": "J", "at": "9999-01-01T00:00:00Z"}}',
            Reason.BAD_TIME,
            "1970 to 2262",
        ),
        (
            b'{"configuration": {"text": "", "by": "' + b"J" * 201 + b'", "at": "2025-10-09T08:53:20Z"}}',
            Reason.WRONG_TYPE,
            "201 characters",
        ),
    ],
)
def test_what_is_no_command_is_rejected_with_its_reason(
    value: bytes | None, reason: Reason, said: str
) -> None:
    with pytest.raises(Rejected) as caught:
        parse_command(value, 1000)
    assert caught.value.reason is reason
    assert said in caught.value.detail


def test_names_of_commands_tell_where_they_stand() -> None:
    assert name_of("abc", 17) == "control:abc:17"
    assert offset_of("control:a:b:17") == 17


# -- decisions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crash", [None, 5, 6])
def test_a_decision_acts_once_at_a_journalled_offset_and_is_answered_also_after_a_crash_and_in_a_replay(
    trained: World, stream: Batch, tmp_path: Path, crash: int | None
) -> None:
    """Sent between the fourth poll and the fifth."""
    sink, topic = MemorySink(), MemoryCommandTopic()
    running = Daemon(trained, stream, tmp_path, sink, topic)
    for poll in range(1, POLLS + 1):
        if poll == 5:
            topic.values.append(decision())
        running.engine.step(0.0)
        if poll == 3:
            running.engine.snapshot()
        if poll == crash:
            running.engine.close()
            running = Daemon(trained, stream, tmp_path, sink, topic)
    running.finish()

    (entry,) = [entry for entry in journal(tmp_path) if entry.id.startswith("control:")]
    (answer,) = events(sink.records, "answer")
    assert (answer["data"]["outcome"], answer["data"]["action"], answer["data"]["by"]) == (
        "APPLIED",
        "approve",
        "J. Roe",
    )
    assert (answer["data"]["offset"], answer["nuwatchoffset"]) == (entry.position, entry.position)
    assert (answer["subject"], answer["time"], answer["data"]["command"]) == (SICK, AT, entry.id)
    versions = [e["data"] for e in events(sink.records, "threshold") if e["data"]["trigger"] == "approved"]
    assert [version["approved_by"] for version in versions] == ["J. Roe"]
    assert replayed(trained, stream, tmp_path) == plain(sink.records)


def replayed(trained: World, stream: Batch, folder: Path, cut: int = 33) -> list[tuple[str, bytes]]:
    """What a replay with the exported journal publishes."""
    entries = journal(folder)
    now = generation(trained, OLD)

    def made(change: Change) -> Generation:
        extra = {text(OLD): OLD, text(NEW): NEW}[change.text]
        return generation(trained, extra)._replace(change=change)

    done = replay(
        MemorySource([stream], cuts=(cut,)),
        now.pipeline_of,
        now.bundles,
        commands=ExportedJournal({0: entries}),
        journalled=Journalled(now.change, made, {0: 0}),
    )
    return plain(done.records)


def test_a_decision_that_is_not_carried_out_is_answered_with_the_reason(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    sink, topic = MemorySink(), MemoryCommandTopic()
    running = Daemon(trained, stream, tmp_path, sink, topic)
    running.engine.step(0.0)
    topic.values.append(decision("rollback"))
    running.finish()
    (answer,) = events(sink.records, "answer")
    assert answer["data"]["outcome"] == "REFUSED"
    assert "no earlier version" in answer["data"]["reason"]
    assert answer["data"]["offset"] == CUT


def test_what_was_said_before_a_partition_began_does_not_act_on_it(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    """A new state must not be given last year's decisions, nor last year's configuration."""
    sink = MemorySink()
    topic = MemoryCommandTopic([decision("rollback"), configuration(), b"no command"])
    running = Daemon(trained, stream, tmp_path, sink, topic)
    running.engine.step(0.0)
    running.carry_out()
    topic.values.append(decision("reject"))
    running.finish()
    assert [offset for _, offset, _ in answers(sink.records)] == [3]
    assert [record for record in sink.records if record.channel is Channel.DEAD_LETTER] == []
    assert [entry.id for entry in journal(tmp_path)][1:] == ["control:memory:3"]


def test_a_control_topic_that_was_made_anew_is_followed_from_its_beginning(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    sink = MemorySink()
    running = Daemon(trained, stream, tmp_path, sink, MemoryCommandTopic([decision()] * 9))
    running.engine.step(0.0)
    running.engine.snapshot()
    running.engine.close()
    again = MemoryCommandTopic([decision("reject")], incarnation="another")
    Daemon(trained, stream, tmp_path, sink, again).finish()
    assert [entry.id for entry in journal(tmp_path)][1:] == ["control:another:0"]


# -- what is refused ------------------------------------------------------------------------------------------


def test_what_is_no_command_is_answered_and_dead_lettered_once_over_restarts(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    sink, topic = MemorySink(), MemoryCommandTopic()
    running = Daemon(trained, stream, tmp_path, sink, topic)
    running.engine.step(0.0)
    topic.values += [b"no command", decision("approve", "elsewhere/7")]
    for _ in range(3):
        running.engine.step(0.0)
        running.engine.snapshot()
        running.engine.close()
        running = Daemon(trained, stream, tmp_path, sink, topic)
    running.finish()
    assert answers(sink.records) == [("REFUSED", 0, "-"), ("REFUSED", 1, "decision")]
    letters = [record for record in sink.records if record.channel is Channel.DEAD_LETTER]
    assert [record.id for record in letters] == ["dlq:commands:0:0:1", "dlq:commands:0:1:1"]
    headers = [dict(record.headers) for record in letters]
    assert [each["x-error-reason"] for each in headers] == [b"MALFORMED", b"UNKNOWN_ASSET"]
    assert [each["x-error-topic"] for each in headers] == [b"commands"] * 2
    assert letters[0].value == b"no command"


def test_a_refusal_that_no_snapshot_covers_is_told_again_under_the_same_id(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    class Eager(MemorySink):
        def emit(self, records: Sequence[OutRecord]) -> None:
            super().emit(records)
            self.flush(0.0)

    sink, topic = Eager(), MemoryCommandTopic()
    running = Daemon(trained, stream, tmp_path, sink, topic)
    running.engine.step(0.0)
    running.engine.snapshot()
    topic.values.append(b"no command")
    running.engine.step(0.0)
    running.engine.close()  # without a snapshot
    Daemon(trained, stream, tmp_path, sink, topic).finish()
    assert answers(sink.records) == [("REFUSED", 0, "-")], "the sink has it already: found by its id"


# -- configurations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crash", [None, 3, 4, 6])
def test_a_configuration_acts_from_one_place_on_and_stays_over_restarts_and_in_a_replay(
    trained: World, stream: Batch, tmp_path: Path, crash: int | None
) -> None:
    """Adopted between the third poll and the fourth; the file stays the old one."""
    sink, topic = MemorySink(), MemoryCommandTopic()
    running = Daemon(trained, stream, tmp_path, sink, topic)
    for poll in range(1, POLLS + 1):
        if poll == 4:
            topic.values.append(configuration())
            running.engine.step(0.0)
            running.carry_out()
        else:
            running.engine.step(0.0)
        if poll == crash:
            running.engine.close()
            running = Daemon(trained, stream, tmp_path, sink, topic)
            running.engine.step(0.0)
            running.carry_out()
    running.finish()
    (entry,) = [entry for entry in journal(tmp_path) if "control:" in entry.id]
    (answer,) = events(sink.records, "answer")
    data = answer["data"]
    assert (data["outcome"], data["kind"], data["configuration"]) == ("APPLIED", "configuration", "new")
    assert (data["partition"], data["offset"]) == (0, entry.position)
    named = configurations(sink.records)
    assert {name for at, name in named if at < entry.position} == {"old"}
    assert {name for at, name in named if at >= entry.position} == {"new"}
    assert replayed(trained, stream, tmp_path) == plain(sink.records)


def configurations(records: Iterable[OutRecord]) -> list[tuple[int, str]]:
    """Offset of the closing record and configuration of every alert."""
    found = [msgspec.json.decode(r.value or b"") for r in records if r.channel is Channel.ALERTS]
    return [(int(e["nuwatchoffset"]), e["data"]["model"]["config"]) for e in found if e["data"]["model"]]


def test_a_crash_between_the_journal_and_what_follows_goes_on_under_the_command_and_tells_of_it(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    sink, topic = MemorySink(), MemoryCommandTopic([])
    running = Daemon(trained, stream, tmp_path, sink, topic)
    running.engine.step(0.0)
    topic.values.append(configuration())
    running.engine.step(0.0)
    order = running.control.order()
    assert order is not None
    running.engine.snapshot()
    running.engine._journal(0, 2 * CUT, generation(trained, NEW, order).change)
    running.engine.close()
    again = Daemon(trained, stream, tmp_path, sink, topic)
    assert again.engine.change.configuration == "new"
    again.carry_out()
    again.finish()
    assert answers(sink.records) == [("APPLIED", 0, "configuration")]
    assert [entry.position for entry in journal(tmp_path)] == [0, 2 * CUT]
    assert replayed(trained, stream, tmp_path) == plain(sink.records)


def test_a_configuration_that_is_refused_is_answered_and_the_old_one_stays_also_after_a_restart(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    sink, topic = MemorySink(), MemoryCommandTopic()
    running = Daemon(trained, stream, tmp_path, sink, topic)
    running.engine.step(0.0)
    topic.values.append(configuration(by="A. Nother"))
    running.engine.step(0.0)
    order = running.control.order()
    assert order is not None
    running.engine.snapshot()
    running.control.settle(order, "unit: got 5, expected a mapping")
    running.engine.step(0.0)
    running.engine.snapshot()
    running.engine.close()
    again = Daemon(trained, stream, tmp_path, sink, topic)
    again.engine.step(0.0)
    assert again.control.order() is None, "what was refused is not tried again"
    again.finish()
    (answer,) = events(sink.records, "answer")
    assert (answer["data"]["outcome"], answer["data"]["by"]) == ("REFUSED", "A. Nother")
    assert answer["data"]["reason"] == "unit: got 5, expected a mapping"
    assert {name for _, name in configurations(sink.records)} == {"old"}


def test_a_configuration_that_came_while_the_daemon_was_down_is_taken_up_and_older_ones_are_given_up(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    sink, topic = MemorySink(), MemoryCommandTopic()
    running = Daemon(trained, stream, tmp_path, sink, topic)
    running.engine.step(0.0)
    running.engine.snapshot()
    running.engine.close()
    topic.values += [configuration(OLD), configuration()]
    again = Daemon(trained, stream, tmp_path, sink, topic)
    again.engine.step(0.0)
    again.carry_out()
    again.finish()
    assert sorted(answers(sink.records)) == [
        ("APPLIED", 1, "configuration"),
        ("REFUSED", 0, "configuration"),
    ]
    (refused,) = [e["data"] for e in events(sink.records, "answer") if e["data"]["outcome"] == "REFUSED"]
    assert refused["reason"] == "superseded by the command at offset 1"


class Appended(MemorySource):
    """A topic that has grown to ``size`` rows."""

    size = 0

    def end(self, partition: int) -> int:  # type: ignore[override] # of a topic, and not of a file
        del partition
        return self.size


def test_a_configuration_does_not_act_on_what_a_life_before_may_have_published_without_it(
    trained: World, stream: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came while the daemon was down: what was folded since the last snapshot is repeated under the old one."""
    monkeypatch.setattr("tests.test_control.MemorySource", Appended)
    monkeypatch.setattr(Appended, "size", 5 * CUT)
    sink, topic = MemorySink(), MemoryCommandTopic()
    running = Daemon(trained, stream, tmp_path, sink, topic)
    for poll in range(1, 6):
        running.engine.step(0.0)
        if poll == 3:
            running.engine.snapshot()
    sink.flush(0.0)
    before = plain(sink.records)
    running.engine.close()
    topic.values += [configuration()]
    again = Daemon(trained, stream, tmp_path, sink, topic)
    again.engine.step(0.0)
    again.carry_out()
    again.engine.snapshot()
    assert [entry.position for entry in again.checkpoint.restore(0).journal] == [0]  # type: ignore[union-attr]
    heard = again.checkpoint.restore(0).marker.heard  # type: ignore[union-attr]
    assert heard == Heard("memory", 0, 0), "whoever holds it next has to do it still"
    again.engine.step(0.0)
    again.engine.snapshot()
    again.finish()
    assert [entry.position for entry in journal(tmp_path)] == [0, 5 * CUT]
    assert [one for one in plain(sink.records) if one in before] == before, "nothing has another body now"
    ids = [name for name, _ in plain(sink.records)]
    assert len(set(ids)) == len(ids)
    assert answers(sink.records) == [("APPLIED", 0, "configuration")]


def test_a_configuration_that_still_waits_is_not_forgotten_over_a_crash(
    trained: World, stream: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon has done with the command while its partition, which repeats, does not stand under it yet."""
    monkeypatch.setattr("tests.test_control.MemorySource", Appended)
    monkeypatch.setattr(Appended, "size", 5 * CUT)
    sink, topic = MemorySink(), MemoryCommandTopic()
    running = Daemon(trained, stream, tmp_path, sink, topic)
    for poll in range(1, 6):
        running.engine.step(0.0)
        if poll == 2:
            running.engine.snapshot()
    running.engine.close()
    before = set(plain(sink.records))
    topic.values += [configuration()]
    again = Daemon(trained, stream, tmp_path, sink, topic)
    again.engine.step(0.0)
    again.carry_out()
    again.engine.step(0.0)
    again.engine.snapshot()
    assert again.control.heard(0) == Heard("memory", 0, 1)
    heard = again.checkpoint.restore(0).marker.heard  # type: ignore[union-attr]
    assert heard == Heard("memory", 0, 0), "whoever holds it next has to do it still"
    again.engine.close()
    third = Daemon(trained, stream, tmp_path, sink, topic)
    third.engine.step(0.0)
    third.carry_out()
    third.engine.snapshot()
    third.finish()
    assert [entry.position for entry in journal(tmp_path)] == [0, 5 * CUT]
    bodies = dict(plain(sink.records))
    assert before <= set(bodies.items()), "nothing is gone"
    assert set(bodies.items()) == set(plain(sink.records)), "nothing has two bodies"
    assert answers(sink.records) == [("APPLIED", 0, "configuration")]


def test_a_later_word_of_the_file_stays_over_a_restart(trained: World, stream: Batch, tmp_path: Path) -> None:
    """SIGHUP after a command: the newest word counts."""
    sink, topic = MemorySink(), MemoryCommandTopic()
    running = Daemon(trained, stream, tmp_path, sink, topic)
    running.engine.step(0.0)
    topic.values.append(configuration())
    running.engine.step(0.0)
    running.carry_out()
    running.engine.adopt(generation(trained, OLD))
    running.engine.step(0.0)
    running.engine.snapshot()
    running.engine.close()
    again = Daemon(trained, stream, tmp_path, sink, topic)
    again.engine.step(0.0)
    assert again.control.order() is None
    assert again.engine.change.configuration == "old"
    again.finish()


def test_without_a_control_topic_the_file_is_the_truth_again(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    sink, topic = MemorySink(), MemoryCommandTopic()
    running = Daemon(trained, stream, tmp_path, sink, topic)
    running.engine.step(0.0)
    topic.values.append(configuration())
    running.engine.step(0.0)
    running.carry_out()
    running.engine.close()
    now = generation(trained, OLD)
    checkpoint = SqliteCheckpoint(tmp_path, sink)
    alone = Engine(MemorySource([stream], cuts=(CUT,)), checkpoint, now.pipeline_of, now.bundles)
    alone.in_force(now.change)
    alone.open("earliest")
    alone.step(0.0)
    alone.snapshot()
    alone.close()
    assert [entry.id.split(":")[1] for entry in journal(tmp_path)] == ["old", "new", "old"]


# -- several daemons ------------------------------------------------------------------------------------------


def follower(topic: MemoryCommandTopic) -> ControlTopic:
    """One of several readers of a topic."""
    origin, own = Origin("t", 0, 0, False, "0"), MemoryCommandTopic()
    own.values = topic.values
    return ControlTopic(own, "commands", ["plant/*"], "/nuwatch/test", origin, 1000, structlog.get_logger())


def test_what_every_daemon_refuses_alike_is_told_by_the_holder_of_the_first_partition() -> None:
    topic = MemoryCommandTopic()
    first, other = follower(topic), follower(topic)
    first.restored(0, None)
    other.restored(1, None)
    topic.values.append(b"no command")
    assert len(first.answers()) == 2
    assert other.answers() == []


def test_what_a_holder_has_not_told_the_next_one_tells_and_what_it_has_told_nobody_does() -> None:
    topic = MemoryCommandTopic()
    first, heir = follower(topic), follower(topic)
    first.restored(0, None)
    heir.restored(1, None)
    begun = first.heard(0)
    topic.values.append(b"no command")
    assert heir.answers() == []
    told = first.answers()
    covered = first.heard(0)
    assert (begun, covered) == (Heard("memory", 0, 0), Heard("memory", 0, 1))

    heir.restored(0, begun)  # the holder died before a commit covered what it had told
    assert [record.id for record in heir.answers()] == [record.id for record in told]
    heir.forget([0])
    heir.restored(0, covered)
    assert heir.answers() == []
    heir.forget([0])
    heir.restored(0, begun)  # its own transaction was aborted: what it told in it is not there
    assert len(heir.answers()) == 2


def test_an_order_waits_for_the_partition_that_has_followed_least() -> None:
    topic = MemoryCommandTopic()
    one = follower(topic)
    one.restored(0, None)
    topic.values += [configuration(OLD)]
    assert one.answers() == []
    assert one.heard(0) == Heard("memory", 0, 0), "not decided yet"
    order = one.order()
    assert order is not None
    assert order.told.offset == 0
    one.settle(order)
    one.answers()
    assert one.heard(0) == Heard("memory", 0, 1)

    stand_by = follower(topic)
    stand_by.answers()
    assert stand_by.order() is None, "nothing is held, so nothing is to be done"
    stand_by.restored(3, Heard("memory", 0, 1))
    assert stand_by.order() is None
    stand_by.restored(2, Heard("memory", 0, 0))
    assert stand_by.order() is not None, "nobody has done it for this one"


def test_a_decision_that_another_daemon_has_journalled_is_not_journalled_again(
    stream: Batch,
) -> None:
    """It waits here until the asset's partition comes, and comes with the partition's journal."""
    topic = MemoryCommandTopic([decision()])
    control = follower(topic)
    written: list[tuple[int, Sequence[Entry]]] = []
    commands = JournalledCommands([control], lambda partition, entries: written.append((partition, entries)))
    source = MemorySource([stream], cuts=(CUT,))
    first, second, third = (source.poll(0.0)[0] for _ in range(3))
    control.restored(1, Heard("memory", 0, 0))
    commands.restored(1, 0, ())
    list(commands.pieces(first._replace(partition=1), {"plant/9": "unit"}))
    taken = Entry(
        CUT,
        name_of("memory", 0),
        b'{"decision":' + msgspec.json.encode(Decision(SICK, "approve", "J", AT)) + b"}",
    )
    control.restored(0, Heard("memory", 0, 0))
    commands.restored(0, 2 * CUT, (taken,))
    acting = [one for piece in commands.pieces(third, {SICK: "unit"}) for one in piece.acting]
    assert acting == []
    assert written == []
    del second


# -- the beginning --------------------------------------------------------------------------------------------


def test_a_decision_waits_until_the_beginning_of_its_partition_is_durable(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    """Before, a journal entry would have nothing to belong to."""
    sink, topic = MemorySink(), MemoryCommandTopic()
    running = Daemon(trained, stream, tmp_path, sink, topic)
    sink.failure = SinkError("not now")
    topic.values.append(decision("rollback"))
    running.engine.step(0.0)  # the beginning waits for the sink
    topic.values.append(decision("reject"))
    running.engine.step(0.0)
    assert running.checkpoint.restore(0) is None
    running.engine.snapshot()
    running.finish()
    assert [(e.id, e.position) for e in journal(tmp_path)][1:] == [("control:memory:1", 2 * CUT)]


def test_a_journal_entry_for_a_partition_without_a_beginning_is_a_state_error(tmp_path: Path) -> None:
    checkpoint = SqliteCheckpoint(tmp_path, MemorySink())
    with pytest.raises(StateError, match="before the partition's beginning was durable"):
        checkpoint.journal(0, [Entry(0, "it", b"{}")])
    checkpoint.close()


def test_a_partition_whose_state_was_lost_hears_what_comes_from_now_on(trained: World, stream: Batch) -> None:
    class Lost(MemoryCheckpoint):
        def restore(self, partition: int) -> Restored | Damaged | None:
            del partition
            return Damaged("flipped", 2 * CUT)

    sink, topic = MemorySink(), MemoryCommandTopic([decision()])
    control = follower(topic)
    checkpoint = Lost(sink)
    commands = JournalledCommands([control], checkpoint.journal)
    now = generation(trained, OLD)
    source = MemorySource([stream], cuts=(CUT,))
    running = Engine(source, checkpoint, now.pipeline_of, now.bundles, commands, control=control)
    running.open("earliest")
    running.step(0.0)
    topic.values.append(decision("rollback"))
    while not running.exhausted:
        running.step(0.0)
    running.snapshot()
    assert [offset for _, offset, _ in answers(sink.records)] == [1]
