"""The clients of kafka-python as nuwatch configures them; the reasons stand beside the values."""

from __future__ import annotations

from typing import Any

from connectors.errors import SettingsError
from connectors.kafka import unpacking
from connectors.kafka.clientlib import (
    COOPERATIVE,
    Admin,
    Consumer,
    KafkaConnectionError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    Producer,
    new_admin,
    new_consumer,
    new_producer,
)
from connectors.kafka.settings import Connection, KafkaSinkSettings, KafkaSourceSettings, TokenFrom
from connectors.kafka.tokens import TokenProvider
from connectors.records import RawRecord

SHORTEST_DELIVERY_SECONDS = 35.0
"""One request may take 30 s; a shorter delivery time-out would give up on a single slow one."""
LONGEST_SEND_SECONDS = 5.0
"""A record for a topic that has gone waits this long for the topic's return before it is the outbox's again."""


def consumer(
    settings: Connection,
    *,
    group: str | None = None,
    check_crcs: bool = True,
    one_batch: bool = False,
    committed: bool = True,
) -> Consumer:
    """A connected consumer without partitions.

    ``check_crcs=False`` reads batches whose checksum is wrong; ``one_batch`` makes a fetch bring one batch;
    ``committed=False`` sees the ends of partitions behind open transactions.

    Raises:
        KafkaError: the cluster does not answer or refuses.
        SettingsError: a secret or certificate cannot be read.
    """
    limits: dict[str, Any] = {}
    if isinstance(settings, KafkaSourceSettings):
        unpacking.bound(settings.max_unpacked_bytes)
    if one_batch:
        limits = {"max_partition_fetch_bytes": 1, "fetch_max_bytes": 1}
    elif isinstance(settings, KafkaSourceSettings):
        limits = {
            # New partitions and moved leaders are seen this soon.
            "metadata_max_age_ms": int(min(30.0, 3 * settings.check_seconds) * 1000),
            "max_partition_fetch_bytes": settings.max_partition_fetch_bytes,
            "fetch_max_bytes": settings.fetch_max_bytes,
            "max_poll_records": settings.max_poll_records,
        }
    return new_consumer(
        **(_common(settings) | limits),
        group_id=group,
        check_crcs=check_crcs,
        auto_offset_reset="none",  # a position that is gone must be said, never jumped over
        enable_auto_commit=False,
        isolation_level="read_committed" if committed else "read_uncommitted",
        allow_auto_create_topics=False,
        metrics_enabled=False,
        **_membership(settings, group),
    )


def _membership(settings: Connection, group: str | None) -> dict[str, Any]:
    """How a member of a group behaves; never a static one, which would leave its partitions unserved."""
    if group is None or not isinstance(settings, KafkaSourceSettings):
        return {}
    return {
        "partition_assignment_strategy": [COOPERATIVE],
        "session_timeout_ms": int(settings.session_seconds * 1000),
        "heartbeat_interval_ms": int(min(3.0, settings.session_seconds / 4) * 1000),
        "max_poll_interval_ms": int(settings.max_poll_seconds * 1000),
    }


def producer(settings: KafkaSinkSettings, transactional_id: str | None = None) -> Producer:
    """A connected idempotent producer; with an id one of transactions, which must be initialised.

    Raises:
        KafkaError: the cluster does not answer or refuses.
        SettingsError: a secret or certificate cannot be read.
    """
    transactions: dict[str, Any] = {}
    if transactional_id is not None:
        transactions = {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": int(settings.transaction_seconds * 1000),
        }
    return new_producer(
        **_common(settings),
        **transactions,
        enable_idempotence=True,
        acks="all",
        linger_ms=settings.linger_ms,
        max_request_size=settings.max_record_bytes,
        compression_type=settings.compression,
        delivery_timeout_ms=int(max(settings.retry_seconds, SHORTEST_DELIVERY_SECONDS) * 1000),
        max_block_ms=int(min(settings.connect_seconds, LONGEST_SEND_SECONDS) * 1000),
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )


def admin(settings: Connection) -> Admin:
    """A connected administration client.

    Raises:
        KafkaError: the cluster does not answer or refuses.
        SettingsError: a secret or certificate cannot be read.
    """
    return new_admin(**_common(settings))


def explain(error: BaseException | None, settings: Connection, what: str) -> str:
    """One line for a person: where, what, and the cause in the client's own words."""
    text = f"Kafka at {', '.join(settings.bootstrap_servers)} ({settings.protocol}): {what}"
    if error is None:
        return text
    return f"{text}: {type(error).__name__}: {error}{_hint(error, settings)}"


def _hint(error: BaseException, settings: Connection) -> str:
    if isinstance(error, KafkaTimeoutError | KafkaConnectionError):
        # The client does not pass a refused log-in on: it, too, ends as a time-out.
        security = settings.security
        login = ", and are security.username and security.password right" if security.username else ""
        login = ", and does the broker accept the token" if security.token else login
        return f"; hint: does a broker listen there, does it speak {settings.protocol}{login}?"
    if "AuthorizationFailed" in type(error).__name__:
        return "; hint: the broker's access rules do not allow this to our user"
    if isinstance(error, MessageSizeTooLargeError):
        return "; hint: the sink's max_record_bytes and the topic's max.message.bytes limit the size"
    return ""


def raw(record: Any) -> RawRecord:
    """A consumed record in nuwatch's own type; a header without a value gets an empty one."""
    headers = tuple((name, value if value is not None else b"") for name, value in record.headers)
    return RawRecord(record.partition, record.offset, record.key, record.value, record.timestamp, headers)


def _common(settings: Connection) -> dict[str, Any]:
    return {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": settings.client_id,
        "bootstrap_timeout_ms": int(settings.connect_seconds * 1000),
        # With the default of 30 s a client has not resumed long after the broker has.
        "reconnect_backoff_max_ms": 1000,
        "metadata_max_age_ms": 30_000,
        **_protection(settings),
    }


def _protection(settings: Connection) -> dict[str, Any]:
    security = settings.security
    known: dict[str, Any] = {
        "security_protocol": settings.protocol,
        "ssl_cafile": _readable(security.ca_file),
        "ssl_certfile": _readable(security.cert_file),
        "ssl_keyfile": _readable(security.key_file),
        "ssl_password": security.key_password.read() if security.key_password else None,
        "sasl_mechanism": security.mechanism,
        "sasl_plain_username": security.username,
        "sasl_plain_password": security.password.read() if security.password else None,
        "sasl_oauth_token_provider": _tokens(security.token) if security.token else None,
    }
    return {name: value for name, value in known.items() if value is not None}


def _tokens(source: TokenFrom) -> TokenProvider:
    """A provider of tokens that has shown that it has one: later the library only tries again."""
    source.read()
    return TokenProvider(source)


def _readable(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with open(path, "rb"):
            return path
    except OSError as error:
        raise SettingsError(f"a file of the Kafka security settings cannot be read: {error}") from error
