"""A real Apache Kafka broker for the tests, and for anyone who wants one without Docker.

``python tests/broker.py --port 9092`` runs a single-node broker (KRaft) until Ctrl-C. The tests get theirs
from `obtain`, through the fixture ``kafka_broker``:

1. ``NUWATCH_TEST_KAFKA=host:port``: a broker that already runs; tests that must stop it are skipped;
2. Java 17 or newer and Maven: Apache Kafka's own artefacts, fetched once into ``.cache/kafka/<version>``;
3. a Docker engine: the image ``apache/kafka``;
4. otherwise `NoBroker`, with the reason.

The jars come from ``tests/kafka_broker/pom.xml``, which also fixes the version. What is worth knowing of this
way of running it: the plain jars hold everything (``kafka.Kafka``, ``StorageTool``, SCRAM, PEM key stores);
``format --standalone`` takes any 22-character URL-safe id, so ``random-uuid`` need not be called; the tree
resolves slf4j-api 1.7, hence ``log4j-slf4j-impl``; and after SIGKILL a node may register again only when its
old session has expired, which the short ``broker.session.timeout.ms`` below keeps to two seconds.
"""

from __future__ import annotations

import argparse
import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError

ROOT = Path(__file__).resolve().parent.parent
RECIPE = Path(__file__).resolve().parent / "kafka_broker"
DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
START_SECONDS = 180.0
USER, PASSWORD = "nuwatch", "a-test-password"
"""The SCRAM user of the secured listener of `Broker` who may do everything."""
GUARDED, GUARDED_PASSWORD = "guarded", "another-test-password"
"""The SCRAM user, OAUTHBEARER subject and certificate name who may do what a test grants with `allow`, and no more."""


class NoBroker(Exception):  # noqa: N818 - names what happened
    """No broker can be had here; the text says why and what would help."""


class AnyBroker(Protocol):
    """What every test may rely on."""

    bootstrap: str
    ours: bool
    """False for a broker that must not be stopped."""

    def create_topic(
        self, name: str, partitions: int = 1, configs: Mapping[str, str] | None = None
    ) -> None: ...


def kafka_version() -> str:
    """The release that the recipe asks for."""
    match = re.search(r"<kafka\.version>(.+?)<", (RECIPE / "pom.xml").read_text())
    assert match is not None, "tests/kafka_broker/pom.xml names no kafka.version"
    return match.group(1)


def jars() -> Path:
    """The folder with the broker's jars, fetched by Maven when it is not there yet.

    Raises:
        NoBroker: Java or Maven is missing, or the download failed.
    """
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    target = ROOT / ".cache" / "kafka" / kafka_version() / "libs"
    if "java" in missing or (missing and not target.is_dir()):
        raise NoBroker(
            f"{' and '.join(missing)} not found; hint: install a JDK 17+ and Maven, or start Docker"
        )
    if not target.is_dir():
        _fetch(target)
    return target


def _fetch(target: Path) -> None:
    """Fetch into a neighbour first: an interrupted download never looks complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="libs-", dir=target.parent))
    # fmt: off
    command = ["mvn", "-q", "-B", "-f", str(RECIPE / "pom.xml"), f"{DEPENDENCY_PLUGIN}:copy-dependencies",
               "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    # fmt: on
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(partial)
        raise NoBroker(f"Maven could not fetch Apache Kafka {kafka_version()}: {done.stdout.strip()[-500:]}")
    try:
        partial.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(partial)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Loopback ports that were free a moment ago, all different: they are held until the last is found.

    Asked for one after the other, the kernel may name the same port twice.
    """
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def produce(
    bootstrap: str,
    topic: str,
    records: Sequence[tuple[bytes | None, bytes | None] | tuple[bytes | None, bytes | None, int]],
    *,
    headers: Sequence[tuple[str, bytes]] = (),
    timestamps_ms: Sequence[int] = (),
    **config: object,
) -> list[int]:
    """Publish raw ``(key, value)`` or ``(key, value, partition)`` records; returns their offsets.

    ``timestamps_ms`` gives each record its broker timestamp; ``config`` goes to kafka-python's producer.
    """
    producer = KafkaProducer(bootstrap_servers=bootstrap, max_request_size=32 * 2**20, **config)
    try:
        futures = [
            producer.send(
                topic,
                key=record[0],
                value=record[1],
                partition=record[2] if len(record) == 3 else None,
                headers=list(headers),
                timestamp_ms=timestamps_ms[number] if timestamps_ms else None,
            )
            for number, record in enumerate(records)
        ]
        return [future.get(timeout=30).offset for future in futures]
    finally:
        producer.close()


def create_topic(
    bootstrap: str, name: str, partitions: int = 1, configs: Mapping[str, str] | None = None
) -> None:
    """Create a topic and wait until its partitions have leaders."""
    options = {"num_partitions": partitions, "replication_factor": 1, "configs": dict(configs or {})}
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics({name: options}, wait_for_metadata=True)
    finally:
        admin.close()


def delete_topic(bootstrap: str, name: str) -> None:
    """Delete a topic and wait until the broker no longer knows it."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.delete_topics([name])
        deadline = time.monotonic() + 30
        while name in admin.list_topics():
            assert time.monotonic() < deadline, f"topic {name} is still there"
            time.sleep(0.1)
    finally:
        admin.close()


def wait_until_ready(bootstrap: str, seconds: float, alive: Process | None = None) -> None:
    """Return when the broker answers as a member of its cluster.

    Raises:
        NoBroker: it ended, or did not answer in time.
    """
    host, _, port = bootstrap.rpartition(":")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if alive is not None and alive.poll() is not None:
            raise NoBroker(f"the broker ended with exit status {alive.poll()}")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            admin = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=5000)
        except (OSError, KafkaError):
            time.sleep(0.1)
            continue
        try:
            if admin.describe_cluster()["brokers"]:
                return
        finally:
            admin.close()
        time.sleep(0.1)
    raise NoBroker(f"{bootstrap} did not answer within {seconds:.0f} s")


class Process(Protocol):
    """The part of `subprocess.Popen` that waiting needs."""

    def poll(self) -> int | None: ...


class Rule(NamedTuple):
    """What a user may do: an operation on one resource; ``prefix`` takes all whose names begin so."""

    resource: str
    name: str
    operation: str
    prefix: bool = False


def allow(bootstrap: str, user: str, rules: Sequence[Rule]) -> None:
    """Grant a user these rules, and wait until they are in force."""
    _change_rules(bootstrap, user, rules, grant=True)


def forbid(bootstrap: str, user: str, rules: Sequence[Rule]) -> None:
    """Take these rules back, and wait until they are gone."""
    _change_rules(bootstrap, user, rules, grant=False)


def _change_rules(bootstrap: str, user: str, rules: Sequence[Rule], *, grant: bool) -> None:
    from kafka.admin import (
        ACL,
        ACLFilter,
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        ResourcePattern,
        ResourceType,
    )

    def made(kind: type, rule: Rule) -> object:
        pattern = ACLResourcePatternType.PREFIXED if rule.prefix else ACLResourcePatternType.LITERAL
        return kind(
            principal=f"User:{user}",
            host="*",
            operation=ACLOperation[rule.operation],
            permission_type=ACLPermissionType.ALLOW,
            resource_pattern=ResourcePattern(ResourceType[rule.resource], rule.name, pattern),
        )

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        change = admin.create_acls if grant else admin.delete_acls
        change([made(ACL if grant else ACLFilter, rule) for rule in rules])
        deadline = time.monotonic() + 30
        wanted = {made(ACLFilter, rule) for rule in rules}
        while any(bool(admin.describe_acls(one)[0]) is not grant for one in wanted):
            assert time.monotonic() < deadline, "the access rules did not come into force"
            time.sleep(0.05)
    finally:
        admin.close()


class ExternalBroker:
    """A broker that somebody else runs: never stopped from here."""

    ours = False

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def create_topic(self, name: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until its partitions have leaders."""
        create_topic(self.bootstrap, name, partitions, configs)

    def stop(self) -> None:
        """Leave it running."""


class Broker:
    """One Apache Kafka node (KRaft: broker and controller in one) as a child process, with its own folder.

    Besides the PLAINTEXT listener of `bootstrap`, ``secure=True`` opens two with a certificate for 127.0.0.1 of the
    throw-away authority `ca_file`: `secure_bootstrap`, SASL_SSL with SCRAM-SHA-512 and (unsigned) OAUTHBEARER tokens,
    and `mutual_bootstrap`, which wants a client's certificate (`client_cert`, `client_key`). Access rules are in force
    (StandardAuthorizer): without TLS, and as `USER`, everything is allowed; to everybody else what `allow` grants.
    Clients that come to `proxy_port` stay there: a listener at `proxied_port` is advertised as that, so that a proxy
    can stand between.

    Attributes:
        log_dir: where the partitions' segment files lie.
    """

    ours = True

    def __init__(
        self, port: int | None = None, *, secure: bool = False, directory: Path | None = None
    ) -> None:
        ports = free_ports(6)
        spare, secure_port, mutual_port, self.proxied_port, self.proxy_port, self._controller_port = ports
        self.port = port or spare
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._temporary = directory is None
        self.directory = (
            directory.resolve()
            if directory
            else Path(tempfile.gettempdir(), f"nuwatch-kafka-{uuid.uuid4().hex}")
        )
        self.log_dir = self.directory / "log"
        self.secure_bootstrap = f"127.0.0.1:{secure_port}" if secure else ""
        self.mutual_bootstrap = f"127.0.0.1:{mutual_port}" if secure else ""
        self._libs: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        """Start, and return when it answers; the first start formats the folder.

        Raises:
            NoBroker: no Java, no jars, or it did not come up; the text ends with the broker's own last words.
        """
        self._libs = jars()
        self.directory.mkdir(parents=True, exist_ok=True)
        if not (self.log_dir / "meta.properties").exists():
            self._format()
        with (self.directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", "server.properties"), cwd=self.directory, stdout=log, stderr=log
            )
        atexit.register(self.kill)
        try:
            wait_until_ready(self.bootstrap, START_SECONDS, self._process)
        except NoBroker as failure:
            last_words = self._last_words()
            self.kill()
            raise NoBroker(f"{failure}; its log ends with:\n{last_words}") from failure
        return self

    def stop(self) -> None:
        """Shut down in order (SIGTERM), and remove the folder if it was a temporary one."""
        self.shut_down()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def shut_down(self) -> None:
        """Shut down in order and keep the folder, for a later `start`."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL), as a power cut would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP): connections stay, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """SIGKILL, then start again on the same port with the same data."""
        self.kill()
        self.revive()

    def revive(self) -> None:
        """Start again after `kill`, on the same port with the same data."""
        self.start()

    def create_topic(self, name: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until its partitions have leaders."""
        create_topic(self.bootstrap, name, partitions, configs)

    @property
    def ca_file(self) -> Path:
        """The authority that signed the secured listener's certificate, PEM."""
        return self.directory / "ca.pem"

    @property
    def client_cert(self) -> Path:
        """A certificate of the same authority for `GUARDED`, PEM; to the access rules it is User:CN=guarded."""
        return self.directory / "client.crt"

    @property
    def client_key(self) -> Path:
        """The private key of `client_cert`, PEM, without a password."""
        return self.directory / "client.key"

    def _end(self, sign: signal.Signals) -> None:
        atexit.unregister(self.kill)
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(sign)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def _java(self, *arguments: str) -> list[str]:
        # One small node that lives for seconds: quick to compile, one collector thread.
        options = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        log4j = f"-Dlog4j2.configurationFile={RECIPE / 'log4j2.properties'}"
        return ["java", *options, log4j, "-cp", f"{self._libs}/*", *arguments]

    def _format(self) -> None:
        if self.secure_bootstrap:
            _certificates(self.directory)
        (self.directory / "server.properties").write_text(self._properties())
        users = ((USER, PASSWORD), (GUARDED, GUARDED_PASSWORD))
        scram = [f"--add-scram=SCRAM-SHA-512=[name={name},password={word}]" for name, word in users]
        cluster = str(uuid.uuid4()).replace("-", "")[:22]
        # fmt: off
        command = self._java("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster,
                             "-c", "server.properties", *scram)
        # fmt: on
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoBroker(f"formatting the broker's folder failed:\n{done.stdout}{done.stderr}")

    def _properties(self) -> str:
        listeners = [f"PLAINTEXT://{self.bootstrap}"]
        if self.secure_bootstrap:
            listeners += [f"SASL_SSL://{self.secure_bootstrap}", f"SSL://{self.mutual_bootstrap}"]
        own = [f"PROXIED://127.0.0.1:{self.proxied_port}", f"CONTROLLER://127.0.0.1:{self._controller_port}"]
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": ",".join([*listeners, *own]),
            "advertised.listeners": ",".join([*listeners, f"PROXIED://127.0.0.1:{self.proxy_port}"]),
            "listener.security.protocol.map": (
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL"
            ),
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self._controller_port}",
            "log.dirs": str(self.log_dir),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # How soon the transaction of a killed writer is ended once its time is over (default 10 s).
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
            # A killed node may register again only when its old session has run out (default 9 s).
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
            "num.network.threads": "2",
            "num.io.threads": "2",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{USER}",
        }
        if self.secure_bootstrap:
            settings["ssl.keystore.type"] = "PEM"
            settings["ssl.keystore.location"] = str(self.directory / "server.pem")
            settings["ssl.truststore.type"] = "PEM"
            settings["ssl.truststore.location"] = str(self.ca_file)
            settings["listener.name.ssl.ssl.client.auth"] = "required"
            modules = "org.apache.kafka.common.security"
            settings["listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config"] = (
                f"{modules}.scram.ScramLoginModule required;"
            )
            settings["listener.name.sasl_ssl.oauthbearer.sasl.jaas.config"] = (
                f"{modules}.oauthbearer.OAuthBearerLoginModule required "
                'unsecuredLoginStringClaim_sub="broker";'
            )
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def _last_words(self) -> str:
        return (self.directory / "broker.log").read_text(errors="replace")[-2000:]


def _certificates(directory: Path) -> None:
    """By openssl: an authority (ca.pem), a key and certificate for 127.0.0.1 (server.pem), and a client's."""
    if shutil.which("openssl") is None:
        raise NoBroker("openssl not found; hint: the secured listener of the tests needs it")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test CA"
    )
    openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=broker")
    (directory / "server.ext").write_text("subjectAltName=IP:127.0.0.1\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "server.ext", "-days", "2")
    openssl("x509", "-req", "-in", "server.csr", *signing, "-out", "server.crt")
    openssl("req", *new_key, "-keyout", "client.key", "-out", "client.csr", "-subj", f"/CN={GUARDED}")
    by_us = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl("x509", "-req", "-in", "client.csr", *by_us, "-out", "client.crt")
    parts = [(directory / name).read_text() for name in ("server.key", "server.crt", "ca.pem")]
    (directory / "server.pem").write_text("".join(parts))


class DockerBroker:
    """One node of the image ``apache/kafka``, for machines with a Docker engine and without Java or Maven."""

    ours = True
    log_dir: Path | None = None
    secure_bootstrap = ""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._name = f"nuwatch-kafka-{uuid.uuid4().hex[:8]}"

    def start(self) -> DockerBroker:
        """Create the container and return when the broker answers."""
        settings = {
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{self.bootstrap}",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        }
        environment = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
        image = f"apache/kafka:{kafka_version()}"
        self._docker(
            "run", "-d", "--name", self._name, "-p", f"127.0.0.1:{self.port}:9092", *environment, image
        )
        atexit.register(self.stop)
        wait_until_ready(self.bootstrap, START_SECONDS)
        return self

    def stop(self) -> None:
        """Remove the container and its data."""
        atexit.unregister(self.stop)
        self._docker("rm", "-f", self._name)

    def kill(self) -> None:
        """End the node at once (SIGKILL)."""
        self._docker("kill", self._name)

    def restart(self) -> None:
        """SIGKILL, then start again on the same port with the same data."""
        self.kill()
        self.revive()

    def revive(self) -> None:
        """Start again after `kill`, on the same port with the same data."""
        self._docker("start", self._name)
        wait_until_ready(self.bootstrap, START_SECONDS)

    def create_topic(self, name: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until its partitions have leaders."""
        create_topic(self.bootstrap, name, partitions, configs)

    @staticmethod
    def _docker(*arguments: str) -> None:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoBroker(f"docker {arguments[0]} failed: {done.stderr.strip()[-500:]}")


def docker_answers() -> bool:
    """Whether a Docker engine can be used from here."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def obtain() -> Broker | DockerBroker | ExternalBroker:
    """A running broker, by the first way of the module's list that works.

    Raises:
        NoBroker: none of the ways works here.
    """
    if address := os.environ.get("NUWATCH_TEST_KAFKA"):
        wait_until_ready(address, 15)
        return ExternalBroker(address)
    secure = shutil.which("openssl") is not None
    try:
        try:
            return Broker(secure=secure).start()
        except NoBroker as first:  # another process may have taken one of its ports in between: once more
            print(f"no broker at the first attempt: {first}", file=sys.stderr)
            return Broker(secure=secure).start()
    except NoBroker:
        if not docker_answers():
            raise
    return DockerBroker().start()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run a single-node Apache Kafka broker until Ctrl-C, without Docker."
    )
    parser.add_argument("--port", type=int, default=9092, help="loopback port (default: %(default)s)")
    parser.add_argument("--directory", type=Path, help="keep the data here (default: a temporary folder)")
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        metavar="NAME[:PARTITIONS]",
        help="create this topic; repeatable",
    )
    return parser.parse_args()


def _create_missing(broker: Broker, topics: Sequence[str]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    present = set(admin.list_topics())
    admin.close()
    for wanted in topics:
        name, _, partitions = wanted.partition(":")
        if name not in present:
            broker.create_topic(name, int(partitions or 1))


def main() -> int:
    """Run a broker in the foreground."""
    arguments = _arguments()
    broker = Broker(arguments.port, directory=arguments.directory)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        broker.start()
        _create_missing(broker, arguments.topic)
        print(f"Apache Kafka {kafka_version()} answers at {broker.bootstrap}; Ctrl-C stops it", flush=True)
        signal.pause()
    except NoBroker as failure:
        print(failure, file=sys.stderr)
        return 69
    except KeyboardInterrupt:
        print("stopping", flush=True)
    finally:
        broker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
