"""Connections that are protected, users that may do no more than they must, and secrets that show nowhere."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from connectors.errors import SettingsError, SinkError, SourceError
from connectors.kafka import (
    KafkaCommandTopic,
    KafkaSink,
    KafkaSinkSettings,
    KafkaSource,
    KafkaSourceSettings,
    SecretFrom,
    Security,
    SinkTopics,
)
from connectors.kafka.settings import TokenFrom
from connectors.ports import CommandTopic, Sink, Source
from monitor.quantities import iso_time
from tests.access import documented, rules_of
from tests.broker import GUARDED, GUARDED_PASSWORD, AnyBroker, Broker, Rule, allow, forbid, produce
from tests.kafka_reader import Tape, alert, everything, nowhere
from tests.worlds import SECOND, START, autoregressive

ROOT = Path(__file__).resolve().parent.parent


# -- tokens and their settings --------------------------------------------------------------------------------


def issued() -> str:
    return "a-token"


def empty_handed() -> None:
    return None


def failing() -> str:
    raise RuntimeError("asked with hunter2")


def test_a_token_comes_from_a_file_that_is_read_anew_or_from_a_function(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    source = TokenFrom(file=str(file))
    assert source.read() == "one"
    file.write_text("two\n")
    assert source.read() == "two"
    assert TokenFrom(call="tests.test_security:issued").read() == "a-token"
    assert "a-token" not in repr(TokenFrom(call="tests.test_security:issued").read())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"file": "/no/such/token"}, "the token's file cannot be read"),
        ({"call": "tests.test_security:nobody"}, "no attribute 'nobody'"),
        ({"call": "no.such.module:token"}, "hint: is the package installed"),
        ({"call": "tests.test_security:empty_handed"}, "got NoneType, expected the token as text"),
        ({"call": "tests.test_security:failing"}, "failed with RuntimeError$"),
    ],
)
def test_a_token_that_cannot_be_had_is_explained_without_what_it_was_asked_with(
    source: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        TokenFrom(**source).read()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("security", "said"),
    [
        ({"mechanism": "OAUTHBEARER"}, "OAUTHBEARER needs `token`"),
        ({"mechanism": "OAUTHBEARER", "token": {"file": "t"}, "username": "u"}, "neither `username`"),
        ({"mechanism": "PLAIN", "token": {"file": "t"}}, "belongs to `mechanism: OAUTHBEARER`"),
        ({"mechanism": "OAUTHBEARER", "token": {}}, "exactly one"),
        ({"mechanism": "OAUTHBEARER", "token": {"call": "module"}}, "expected package.module:function"),
        ({"mechanism": "OAUTHBEARER", "token": {"env": "TOKEN"}}, "unknown field `env`"),
    ],
)
def test_token_settings_that_contradict_themselves_are_refused(security: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert(security, Security)


def test_relative_paths_of_secrets_begin_at_the_configuration(tmp_path: Path) -> None:
    from monitor.configuration import parse
    from monitor.connect import source_settings

    text = """
site: s
source:
  kind: kafka
  bootstrap_servers: ["b.example:1"]
  topic: t
  security: {ca_file: ca.pem, mechanism: PLAIN, username: u, password: {file: /run/secret}}
asset_classes: {u: {assets: ["a"], sampling: 1s, sensors: {x: {unit: Cel}}}}
"""
    security = source_settings(parse(text, tmp_path / "plant.yaml")).security
    assert security.ca_file == str(tmp_path / "ca.pem")
    assert security.password.file == "/run/secret"
    assert security.cert_file is None


# -- connections, on a real broker ----------------------------------------------------------------------------


@pytest.fixture
def guarded(kafka_broker: AnyBroker) -> Broker:
    if not isinstance(kafka_broker, Broker) or not kafka_broker.secure_bootstrap:
        pytest.skip("this broker has no secured listeners")
    return kafka_broker


def through(server: str, security: Security, topics: SinkTopics) -> None:
    """Publish one alert and read it back as a source."""
    shared: dict[str, Any] = {"bootstrap_servers": (server,), "security": security, "connect_seconds": 5.0}
    sink = KafkaSink(KafkaSinkSettings(**shared, topics=topics))
    sink.open()
    sink.emit([alert(1)])
    sink.flush(10.0)
    sink.close()
    tape = Tape()
    source = KafkaSource(KafkaSourceSettings(**shared, topic=topics.alerts, until="end", group=None), tape)
    source.open(nowhere, "earliest")
    while not source.exhausted:
        source.poll(0.2)
    source.close()
    assert [record.value for record in tape.records] == [b"{}"]


def on_all(topics: SinkTopics) -> list[Rule]:
    names = (topics.alerts, topics.thresholds, topics.dead_letter)
    return [Rule("TOPIC", name, operation) for name in names for operation in ("READ", "WRITE")]


@pytest.mark.kafka
def test_records_pass_with_a_certificate_of_our_own(guarded: Broker, kafka_topics: SinkTopics) -> None:
    allow(guarded.bootstrap, f"CN={GUARDED}", on_all(kafka_topics))
    security = Security(
        ca_file=str(guarded.ca_file),
        cert_file=str(guarded.client_cert),
        key_file=str(guarded.client_key),
        protocol="SSL",
    )
    through(guarded.mutual_bootstrap, security, kafka_topics)


@pytest.mark.kafka
def test_without_a_certificate_the_broker_that_wants_one_is_not_reached(
    guarded: Broker, new_topic: Callable[..., str]
) -> None:
    security = Security(ca_file=str(guarded.ca_file), protocol="SSL")
    settings = KafkaSourceSettings(
        bootstrap_servers=(guarded.mutual_bootstrap,),
        security=security,
        topic=new_topic(),
        connect_seconds=2.0,
    )
    with pytest.raises(SourceError):
        KafkaSource(settings, Tape()).open(nowhere, "earliest")


def token_of(subject: str, seconds: int = 600) -> str:
    """An unsigned JSON Web Token, as the test broker takes them."""
    now = int(time.time())

    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part({'sub': subject, 'iat': now, 'exp': now + seconds})}."


def guarded_token() -> str:
    return token_of(GUARDED)


def bearer(broker: Broker, **token: str) -> Security:
    return Security(
        protocol="SASL_SSL",
        ca_file=str(broker.ca_file),
        mechanism="OAUTHBEARER",
        token=TokenFrom(**token),
    )


@pytest.mark.kafka
def test_records_pass_with_tokens_of_a_function(guarded: Broker, kafka_topics: SinkTopics) -> None:
    allow(guarded.bootstrap, GUARDED, on_all(kafka_topics))
    security = bearer(guarded, call="tests.test_security:guarded_token")
    through(guarded.secure_bootstrap, security, kafka_topics)


@pytest.mark.kafka
def test_a_renewed_token_file_is_taken_up_by_the_next_log_in(
    guarded: Broker, kafka_topics: SinkTopics, tmp_path: Path
) -> None:
    allow(guarded.bootstrap, GUARDED, on_all(kafka_topics))
    file = tmp_path / "token"
    file.write_text(token_of(GUARDED, seconds=-60))
    security = bearer(guarded, file=str(file))
    settings = KafkaSinkSettings(
        bootstrap_servers=(guarded.secure_bootstrap,),
        security=security,
        topics=kafka_topics,
        connect_seconds=2.0,
    )
    with pytest.raises(SinkError, match="does the broker accept the token") as refused:
        KafkaSink(settings).open()
    assert file.read_text() not in str(refused.value)
    file.write_text(token_of(GUARDED) + "\n")
    through(guarded.secure_bootstrap, security, kafka_topics)


# -- least privilege ------------------------------------------------------------------------------------------


class Plant(NamedTuple):
    """Topics and group of one test, and who may use them."""

    broker: Broker
    sensors: str
    group: str
    topics: SinkTopics
    control: str

    @property
    def rules(self) -> list[Rule]:
        names = {"source.topic": self.sensors, "source.group": self.group, "control.topic": self.control}
        names |= {f"sink.topics.{name}": topic for name, topic in msgspec.structs.asdict(self.topics).items()}
        return rules_of(names)

    @property
    def shared(self) -> dict[str, Any]:
        security = Security(
            protocol="SASL_SSL",
            ca_file=str(self.broker.ca_file),
            mechanism="SCRAM-SHA-512",
            username=GUARDED,
            password=SecretFrom(env="NUWATCH_GUARDED"),
        )
        servers = (self.broker.secure_bootstrap,)
        return {"bootstrap_servers": servers, "security": security, "connect_seconds": 5.0}

    def source(self) -> Source:
        return KafkaSource(KafkaSourceSettings(**self.shared, topic=self.sensors, group=self.group), Tape())

    def sink(self) -> Sink:
        return KafkaSink(KafkaSinkSettings(**self.shared, topics=self.topics))

    def commands(self) -> CommandTopic:
        return KafkaCommandTopic(KafkaSinkSettings(**self.shared, topics=self.topics), self.control)


@pytest.fixture
def plant(
    guarded: Broker, new_topic: Callable[..., str], kafka_topics: SinkTopics, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Plant]:
    monkeypatch.setenv("NUWATCH_GUARDED", GUARDED_PASSWORD)
    made = Plant(guarded, new_topic(), f"group-{uuid.uuid4().hex[:8]}", kafka_topics, new_topic())
    allow(guarded.bootstrap, GUARDED, made.rules)
    yield made
    forbid(guarded.bootstrap, GUARDED, made.rules)


@pytest.mark.kafka
@pytest.mark.parametrize("row", documented(), ids=" ".join)
def test_each_documented_right_is_needed_and_its_lack_is_named(
    plant: Plant, row: tuple[str, str, str]
) -> None:
    taken = plant.rules[documented().index(row)]
    forbid(plant.broker.bootstrap, GUARDED, [taken])
    source, sink, commands = plant.source(), plant.sink(), plant.commands()
    try:
        with pytest.raises((SourceError, SinkError)) as refused:
            open_all(source, sink, commands)
    finally:
        source.close()
        sink.close()
        commands.close()
        allow(plant.broker.bootstrap, GUARDED, [taken])
    said = str(refused.value)
    assert taken.name in said
    assert taken.operation in said
    assert "hint:" in said
    assert GUARDED_PASSWORD not in said


def open_all(source: Source, sink: Sink, commands: CommandTopic) -> None:
    source.open(nowhere, "earliest")
    sink.open()
    commands.open()


@pytest.mark.kafka
def test_the_daemon_works_with_exactly_the_documented_rights_over_tls(plant: Plant, tmp_path: Path) -> None:
    write_plant(tmp_path, plant)
    records = [
        (
            b"plant/0",
            msgspec.json.encode(
                {"asset": "plant/0", "ts": iso_time(START + n * SECOND), "values": {"a": x, "b": y}}
            ),
        )
        for n, (x, y) in enumerate(faulty(300))
    ]
    produce(plant.broker.bootstrap, plant.sensors, [*records[:200], (b"plant/0", b"not a record")])
    watch(plant, tmp_path, tmp_path / "first.log")
    produce(plant.broker.bootstrap, plant.control, [(None, b"no command")])  # read, and answered at once
    produce(plant.broker.bootstrap, plant.sensors, records[200:])
    watch(plant, tmp_path, tmp_path / "second.log")
    told = everything(plant.broker.bootstrap, plant.topics.thresholds)
    assert [True for record in told if b"nuwatch.answer.v1" in record.value] == [True]
    ids = [dict(r.headers)["nuwatch-id"] for r in everything(plant.broker.bootstrap, plant.topics.alerts)]
    assert len(ids) == len(set(ids)) > 0


def watch(plant: Plant, folder: Path, log: Path) -> None:
    """Run the daemon until it has published and made it durable, and stop it in order."""
    process = daemon(folder, log)
    try:
        wait_for(log, process, lambda: alerts_of(plant) > 0 and bool(letters_of(plant)))
        wait_for(log, process, lambda: log.read_text().count('"snapshot"') > 3)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
    assert code == 0, log.read_text()
    assert GUARDED_PASSWORD not in log.read_text()


def faulty(rows: int) -> list[list[float]]:
    values = autoregressive(5, rows, 2)
    values[100:, 1] += 40.0
    return values.tolist()


def alerts_of(plant: Plant) -> int:
    return len(everything(plant.broker.bootstrap, plant.topics.alerts))


def letters_of(plant: Plant) -> list[Any]:
    return everything(plant.broker.bootstrap, plant.topics.dead_letter)


def write_plant(folder: Path, plant: Plant) -> None:
    """A configuration and a bundle trained from a file."""
    rows = "\n".join(
        f"{iso_time(START + (n - 5000) * SECOND)},{x},{y}"
        for n, (x, y) in enumerate(autoregressive(3, 1200, 2))
    )
    (folder / "normal.csv").write_text(f"t,a,b\n{rows}\n")
    security = (
        f"{{protocol: SASL_SSL, ca_file: {plant.broker.ca_file}, mechanism: SCRAM-SHA-512, username: {GUARDED}, "
        "password: {env: NUWATCH_GUARDED}}"
    )
    server = plant.broker.secure_bootstrap
    (folder / "plant.yaml").write_text(
        f"""
site: test
source: {{kind: kafka, bootstrap_servers: ["{server}"], topic: {plant.sensors}, group: {plant.group},
  security: {security}}}
sink: {{kind: kafka, bootstrap_servers: ["{server}"], security: {security},
  topics: {{alerts: {plant.topics.alerts}, thresholds: {plant.topics.thresholds},
    dead_letter: {plant.topics.dead_letter}}}}}
recordings: {{paths: [normal.csv], time: {{column: t}}, asset: plant/0}}
state: {{interval: 300ms}}
control: {{topic: {plant.control}}}
asset_classes:
  unit:
    assets: ["plant/*"]
    sampling: 1s
    sensors: {{a: {{unit: Cel}}, b: {{unit: bar}}}}
    window: {{length: 8}}
    calibration: {{nu: 0.05, enough: 1}}
    scoring: {{scorers: {{pca: {{}}}}, block: 32}}
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "train", "plant.yaml", "--allow-uncalibrated"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def daemon(folder: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "monitor", "run", "plant.yaml", "--start", "earliest", "--verbose"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=out,
        )


def wait_for(log: Path, process: subprocess.Popen[bytes], what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


# -- secrets that do not show ---------------------------------------------------------------------------------

SECURED = """
site: s
source: &kafka
  kind: kafka
  bootstrap_servers: ["b.example:9093"]
  topic: t
  security: {{mechanism: SCRAM-SHA-512, username: u, password: {password}}}
sink: {{kind: memory}}
asset_classes: {{u: {{assets: ["a"], sampling: 1s, sensors: {{password: {{unit: Cel, range: [0, 9]}}}}}}}}
"""


def run_nuwatch(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "monitor", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_config_show_prints_what_is_in_force_and_where_secrets_are_read_from(tmp_path: Path) -> None:
    from monitor.configuration import parse, read

    plant = tmp_path / "plant.yaml"
    plant.write_text(SECURED.format(password="{env: KAFKA_PASSWORD}"))
    shown = run_nuwatch("config", "show", str(plant), KAFKA_PASSWORD="hunter2")
    assert shown.returncode == 0, shown.stderr
    assert "hunter2" not in shown.stdout + shown.stderr
    assert "env: KAFKA_PASSWORD" in shown.stdout
    assert "protocol: SASL_SSL" in shown.stdout
    assert "length: 64" in shown.stdout, "a default"
    again = parse(shown.stdout, plant)
    assert again.settings.asset_classes == read(plant).settings.asset_classes
    as_json = run_nuwatch("config", "show", str(plant), "--json", KAFKA_PASSWORD="hunter2")
    assert json.loads(as_json.stdout)["source"]["security"]["password"] == {"env": "KAFKA_PASSWORD"}


@pytest.mark.parametrize("command", [["config", "show"], ["validate"], ["run"]])
def test_a_password_that_stands_in_the_configuration_is_refused_and_not_repeated(
    tmp_path: Path, command: list[str]
) -> None:
    plant = tmp_path / "plant.yaml"
    plant.write_text(SECURED.format(password="hunter2"))
    done = run_nuwatch(*command, str(plant))
    assert done.returncode in (1, 78)
    assert "password" in done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_a_crash_does_not_print_secrets() -> None:
    """A traceback on a terminal shows no local variables, whatever formatter is installed."""
    code = (
        "import sys; sys.stderr.isatty = lambda: True\n"
        "from monitor.cli.common import start_logging\n"
        "from connectors.kafka import SecretFrom\n"
        "log = start_logging()\n"
        "def connect():\n"
        "    secret = SecretFrom(env='KAFKA_PASSWORD').read()\n"
        "    plain = str.__str__(secret)\n"
        "    raise RuntimeError('no')\n"
        "try:\n    connect()\nexcept RuntimeError:\n    log.exception('failed')\n"
        "connect()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "KAFKA_PASSWORD": "hunter2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.count("RuntimeError: no") >= 2, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
