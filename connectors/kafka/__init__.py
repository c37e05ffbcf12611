"""Apache Kafka as a source and a sink. The settings can be read without importing the client library."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from connectors.kafka.settings import KafkaSinkSettings, KafkaSourceSettings, SecretFrom, Security, SinkTopics

if TYPE_CHECKING:
    from connectors.kafka.browse import history
    from connectors.kafka.check import BrokerReport, check_broker, sample
    from connectors.kafka.control import KafkaCommandTopic, send_command
    from connectors.kafka.group import KafkaGroupSource
    from connectors.kafka.ledger import KafkaLedger
    from connectors.kafka.resending import resend
    from connectors.kafka.sink import KafkaSink
    from connectors.kafka.source import KafkaSource

__all__ = [
    "BrokerReport",
    "KafkaCommandTopic",
    "KafkaGroupSource",
    "KafkaLedger",
    "KafkaSink",
    "KafkaSinkSettings",
    "KafkaSource",
    "KafkaSourceSettings",
    "SecretFrom",
    "Security",
    "SinkTopics",
    "check_broker",
    "history",
    "resend",
    "sample",
    "send_command",
]

_HOME = {
    "BrokerReport": "check",
    "KafkaCommandTopic": "control",
    "KafkaGroupSource": "group",
    "KafkaLedger": "ledger",
    "KafkaSink": "sink",
    "KafkaSource": "source",
    "check_broker": "check",
    "history": "browse",
    "resend": "resending",
    "sample": "check",
    "send_command": "control",
}


def __getattr__(name: str) -> Any:
    """Import the client library only when something needs it (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
