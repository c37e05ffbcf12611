"""Settings of the Kafka source and sink. No Kafka library is needed to read them."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self, cast

from msgspec import Struct, field, structs

from connectors.errors import SettingsError
from connectors.records import Channel

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


class Secret(str):
    """A string that does not show itself in ``repr``: client libraries log their settings."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(...)"


class _Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of settings: immutable, and an unknown key is an error."""


class SecretFrom(_Section, frozen=True, kw_only=True):
    """Where a secret is read from; the settings themselves never hold one. Exactly one of the two.

    Attributes:
        file: path of a file that holds the secret; a trailing line end is not part of it.
        env: name of an environment variable that holds it.
    """

    file: str | None = None
    env: str | None = None

    def __post_init__(self) -> None:
        if (self.file is None) == (self.env is None):
            raise SettingsError("a secret is read either from `file` or from `env`; give exactly one of them")

    def read(self) -> Secret:
        """The secret.

        Raises:
            SettingsError: the file cannot be read, or the variable is not set.
        """
        if self.env is not None:
            value = os.environ.get(self.env)
            if value is None:
                raise SettingsError(f"the environment variable {self.env}, which holds a secret, is not set")
            return Secret(value)
        return _secret_in(str(self.file), "secret")

    def anchored(self, folder: Path) -> Self:
        """The same with its file below ``folder`` where it is relative."""
        return self if self.file is None else structs.replace(self, file=str(folder / self.file))


class TokenFrom(_Section, frozen=True, kw_only=True):
    """Where OAUTHBEARER tokens come from; asked at every log-in, since tokens expire. Exactly one of the two.

    Attributes:
        file: path of a file that holds the present token, which another program renews; it is read anew each time.
        call: `package.module:function` of an installed package; called without arguments, it returns the token. It
            runs inside nuwatch: name only what you trust.
    """

    file: str | None = None
    call: str | None = None

    def __post_init__(self) -> None:
        if (self.file is None) == (self.call is None):
            raise SettingsError("tokens come either from `file` or from `call`; give exactly one of them")
        if self.call is not None and not all(self.call.partition(":")):
            raise SettingsError(f"call: got {self.call!r}, expected package.module:function")

    def read(self) -> Secret:
        """The present token.

        Raises:
            SettingsError: the file cannot be read or is empty, the function is not there, failed, or gave no text. The
                message never holds what was read.
        """
        if self.call is None:
            return _secret_in(str(self.file), "token")
        token = _called(self.call)
        if not isinstance(token, str) or not token:
            raise SettingsError(f"{self.call}: got {type(token).__name__}, expected the token as text")
        return Secret(token)

    def anchored(self, folder: Path) -> Self:
        """The same with its file below ``folder`` where it is relative."""
        return self if self.file is None else structs.replace(self, file=str(folder / self.file))


def _secret_in(file: str, what: str) -> Secret:
    try:
        secret = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"the {what}'s file cannot be read: {error}") from error
    except UnicodeDecodeError:  # its text would show the bytes
        raise SettingsError(f"the {what}'s file {file} is not UTF-8 text") from None
    if not secret:
        raise SettingsError(f"the {what}'s file {file} is empty")
    return Secret(secret)


def _called(path: str) -> object:
    module, _, name = path.partition(":")
    try:
        function = cast("Callable[[], object]", getattr(import_module(module), name))
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"{path}: {error}; hint: is the package installed beside nuwatch?") from error
    try:
        return function()
    except Exception as error:  # whatever it raises; its text may hold what it asked with
        raise SettingsError(f"{path} failed with {type(error).__name__}") from None


class Security(_Section, frozen=True, kw_only=True):
    """How the connection is protected, and who we are to the broker.

    Attributes:
        protocol: null means TLS, and without TLS only when every bootstrap server is this machine (loopback);
            the SASL form of it when `mechanism` is given.
        allow_plaintext: permits PLAINTEXT and SASL_PLAINTEXT to other machines.
        ca_file: authority that signed the broker's certificate, PEM; null: the system's.
        cert_file: our certificate for mutual TLS, PEM.
        key_file: our private key, PEM.
        key_password: of the private key, where it is encrypted.
        mechanism: of SASL.
        username: of SASL with PLAIN or SCRAM.
        password: of SASL with PLAIN or SCRAM.
        token: of SASL with OAUTHBEARER.
    """

    protocol: Protocol | None = None
    allow_plaintext: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: SecretFrom | None = None
    mechanism: Mechanism | None = None
    username: str | None = None
    password: SecretFrom | None = None
    token: TokenFrom | None = None

    def __post_init__(self) -> None:
        self._check_credentials()
        if self.protocol is not None and self.protocol.startswith("SASL_") != bool(self.mechanism):
            raise SettingsError(f"protocol {self.protocol} and mechanism {self.mechanism} do not go together")
        if self.key_file is not None and self.cert_file is None:
            raise SettingsError("`key_file` without `cert_file`: mutual TLS needs the certificate too")

    def _check_credentials(self) -> None:
        if self.mechanism == "OAUTHBEARER":
            if self.token is None or self.username is not None or self.password is not None:
                raise SettingsError("OAUTHBEARER needs `token`, and neither `username` nor `password`")
            return
        if self.token is not None:
            raise SettingsError("`token` belongs to `mechanism: OAUTHBEARER`")
        credentials = (self.mechanism, self.username, self.password)
        if any(credentials) and not all(credentials):
            raise SettingsError("SASL needs all of `mechanism`, `username` and `password`")

    def anchored(self, folder: Path) -> Self:
        """The same with every relative path below ``folder``."""
        moved: dict[str, Any] = {}
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self, name)
            moved[name] = None if path is None else str(folder / path)
        for name in ("password", "key_password", "token"):
            source = getattr(self, name)
            moved[name] = None if source is None else source.anchored(folder)
        return structs.replace(self, **moved)


class Connection(_Section, frozen=True, kw_only=True):
    """What every client of a Kafka cluster needs.

    Attributes:
        bootstrap_servers: `host:port` of one or more brokers; the others are learnt from them.
        security: TLS and SASL.
        client_id: the name under which the broker's logs and quotas know us.
        connect_seconds: how long the first connection may take.
        retry_seconds: how long a broker that does not answer, or refuses, is retried before giving up.
    """

    bootstrap_servers: tuple[str, ...]
    security: Security = field(default_factory=Security)
    client_id: str = "nuwatch"
    connect_seconds: float = 30.0
    retry_seconds: float = 300.0

    def __post_init__(self) -> None:
        if not self.bootstrap_servers:
            raise SettingsError("`bootstrap_servers` is empty; expected at least one host:port")
        strangers = [server for server in self.bootstrap_servers if not is_loopback(server)]
        if strangers and "PLAINTEXT" in self.protocol and not self.security.allow_plaintext:
            raise SettingsError(
                f"{self.protocol} would send readings and credentials unencrypted to {', '.join(strangers)}; "
                "hint: use SSL or SASL_SSL, or set security.allow_plaintext: true inside a trusted network"
            )

    @property
    def protocol(self) -> Protocol:
        """The security protocol in force."""
        if self.security.protocol is not None:
            return self.security.protocol
        local = all(is_loopback(server) for server in self.bootstrap_servers)
        if self.security.mechanism is None:
            return "PLAINTEXT" if local else "SSL"
        return "SASL_PLAINTEXT" if local else "SASL_SSL"


class KafkaSourceSettings(Connection, frozen=True, kw_only=True):
    """A topic of sensor records.

    Attributes:
        topic: the topic.
        group: consumer group under which positions are committed, for lag monitors only; null: nowhere. With
            `state.changelog` it is the group whose daemons share the topic.
        until: reads a part of the topic's history: up to a broker time (epoch ns), or to the 'end' that each
            partition has when the source is opened. null: for ever.
        max_poll_records: records per poll at most.
        max_partition_fetch_bytes: bytes per fetch and partition; a larger single record still comes through.
        fetch_max_bytes: bytes per fetch. Both bound compressed bytes.
        max_unpacked_bytes: bytes that one batch may unpack to; the records of a larger one are dead letters, TOO_LARGE.
            One bound holds for the whole process.
        damaged: what happens to records that cannot be unpacked, twice: 'dead_letter' passes them with their offsets,
            'stop' ends with exit 69 in front of them.
        check_seconds: how often the broker's answer, the topic's partitions and standstill are checked.
        stall_seconds: a partition that has records but has not moved for so long gets a new connection.
        session_seconds: a member of a shared group that has not been heard for so long has lost its partitions.
        max_poll_seconds: the longest that one step may take in a shared group before the partitions go to others.
    """

    topic: str
    group: str | None = "nuwatch"
    until: int | Literal["end"] | None = None
    max_poll_records: int = 5000
    max_partition_fetch_bytes: int = 1_048_576
    fetch_max_bytes: int = 8_388_608
    max_unpacked_bytes: int = 67_108_864
    damaged: Literal["dead_letter", "stop"] = "dead_letter"
    check_seconds: float = 10.0
    stall_seconds: float = 60.0
    session_seconds: float = 15.0
    max_poll_seconds: float = 300.0


class SinkTopics(_Section, frozen=True, kw_only=True):
    """The topic of each output channel.

    Attributes:
        alerts: incidents, as CloudEvents keyed by asset.
        thresholds: versions of thresholds.
        dead_letter: input records that could not be used, with the reason.
    """

    alerts: str = "nuwatch-alerts"
    thresholds: str = "nuwatch-thresholds"
    dead_letter: str = "nuwatch-dead-letters"

    def __post_init__(self) -> None:
        if len({self.alerts, self.thresholds, self.dead_letter}) < 3:
            raise SettingsError("two output channels share a topic; expected a topic of its own for each")

    def of(self, channel: Channel) -> str:
        """The channel's topic."""
        return str(getattr(self, channel.value))


class KafkaSinkSettings(Connection, frozen=True, kw_only=True):
    """The topics that nuwatch writes.

    Attributes:
        topics: the topic of each output channel.
        create_topics: create missing topics instead of refusing to start.
        partitions: of created topics.
        replication_factor: of created topics; -1 is the broker's default.
        linger_ms: how long a record waits for others to share its request.
        max_record_bytes: larger records are refused; the topics' `max.message.bytes` must allow as much.
        compression: of what is sent.
        transaction_seconds: with `state.changelog`, the longest that a transaction may take; also how long the
            partitions of a daemon that was killed within one stay unserved, the broker's own pace added.
    """

    topics: SinkTopics = field(default_factory=SinkTopics)
    create_topics: bool = False
    partitions: int = 1
    replication_factor: int = -1
    linger_ms: int = 5
    max_record_bytes: int = 1_048_576
    compression: Literal["gzip", "snappy", "lz4", "zstd"] | None = None
    transaction_seconds: float = 10.0


def is_loopback(server: str) -> bool:
    """Whether a `host:port` is this machine, without asking a name server."""
    host = server.rpartition(":")[0] if server.count(":") == 1 or server.startswith("[") else server
    host = host.strip("[]").lower()
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
