"""From the configuration's `source` and `sink` sections to connectors; each kind is imported when it is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from connectors.codec import Codec
from connectors.records import ClassLayout, Layout, SensorLayout, TimeLayout
from monitor.alerting.short_form import shorter
from monitor.configuration import Configuration, convert
from monitor.errors import ConfigurationError
from monitor.settings import Settings

if TYPE_CHECKING:
    from connectors.ports import CommandTopic, SharedSource, Sink, Source
    from monitor.shared_checkpoint import Ledger

SOURCE_KINDS = ("kafka", "files", "memory")
SINK_KINDS = ("kafka", "files", "memory")


def layout_of(settings: Settings) -> Layout:
    """What codecs and file readers must know of the configuration."""
    return Layout(
        classes=tuple(
            ClassLayout(
                name,
                asset_class.assets,
                tuple(
                    SensorLayout(sensor_name, sensor.tag or sensor_name, sensor.unit)
                    for sensor_name, sensor in asset_class.sensors.items()
                ),
            )
            for name, asset_class in settings.asset_classes.items()
        ),
        time=TimeLayout(
            settings.times.unit,
            settings.times.zone,
            int(settings.times.range[0]),
            int(settings.times.range[1]),
        ),
        ignore_unknown_sensors=settings.unknown_sensors == "ignore",
        max_bytes=settings.max_record,
    )


def source_settings(configuration: Configuration) -> Any:
    """The source's typed settings, without connecting.

    Raises:
        ConfigurationError: the section does not fit the connector.
    """
    kind = _kind(configuration, "source", SOURCE_KINDS)
    if kind == "kafka":
        from connectors.kafka import KafkaSourceSettings

        return _section(configuration, "source", KafkaSourceSettings)
    if kind == "files":
        from connectors.files import FilesSourceSettings

        return _section(configuration, "source", FilesSourceSettings)
    return None


def recordings(configuration: Configuration, paths: Sequence[Path]) -> Any:
    """Typed settings of the recorded data: the `recordings` section, else `source`; ``paths`` replace its own.

    Raises:
        ConfigurationError: the section does not fit, or nothing says where files are and how they look.
    """
    section = configuration.settings.recordings
    if section is None:
        settings = source_settings(configuration)
    else:
        from connectors.files import FilesSourceSettings

        settings = convert(
            section, FilesSourceSettings, configuration.path, configuration.document, ("recordings",)
        )
    if paths and not hasattr(settings, "paths"):
        raise ConfigurationError(
            f"{configuration.where()}: files were given, but no `recordings` section says what their columns are; "
            "hint: add one, see `nuwatch init`"
        )
    if paths:
        settings = msgspec.structs.replace(settings, paths=tuple(str(path.absolute()) for path in paths))
    return settings


def make_source(configuration: Configuration, override: Any = None) -> Source:
    """The configured source; ``override`` is typed settings to use in place of the section's.

    Raises:
        ConfigurationError: the section does not fit the connector, or names a kind that needs a program.
    """
    settings = source_settings(configuration) if override is None else override
    layout = layout_of(configuration.settings)
    kind = type(settings).__name__
    if kind == "KafkaSourceSettings":
        from connectors.kafka import KafkaSource

        return KafkaSource(settings, Codec(layout))
    if kind == "FilesSourceSettings":
        from connectors.files import FilesSource

        return FilesSource(settings, layout, configuration.folder)
    raise ConfigurationError(
        f"{configuration.where('source')}: a memory source is fed by a program, not by a command; "
        "hint: use kind: files or kind: kafka"
    )


def sink_settings(configuration: Configuration) -> Any:
    """The sink's typed settings, without connecting; None of a memory sink.

    Raises:
        ConfigurationError: the section does not fit the connector.
    """
    kind = _kind(configuration, "sink", SINK_KINDS)
    if kind == "kafka":
        from connectors.kafka import KafkaSinkSettings

        return _section(configuration, "sink", KafkaSinkSettings)
    if kind == "files":
        from connectors.files import FilesSinkSettings

        return _section(configuration, "sink", FilesSinkSettings)
    return None


def make_sink(configuration: Configuration) -> Sink:
    """The configured sink.

    Raises:
        ConfigurationError: the section does not fit the connector.
    """
    settings = sink_settings(configuration)
    kind = type(settings).__name__
    if kind == "KafkaSinkSettings":
        from connectors.kafka import KafkaSink

        return KafkaSink(settings, shorter)
    if kind == "FilesSinkSettings":
        from connectors.files import FilesSink

        return FilesSink(settings, configuration.folder)
    from connectors.memory import MemorySink

    return MemorySink()


def control_settings(configuration: Configuration) -> tuple[Any, str] | None:
    """The connection and the name of the control topic; None where none is configured.

    Raises:
        ConfigurationError: there is a topic, and the sink is not Kafka.
    """
    topic = configuration.settings.control.topic
    if topic is None:
        return None
    settings = sink_settings(configuration)
    if type(settings).__name__ != "KafkaSinkSettings":
        raise ConfigurationError(
            f"{configuration.where('control')}: control.topic: got a sink that is not Kafka, expected `sink.kind: "
            "kafka`: the topic is one of its cluster"
        )
    return settings, topic


def make_control(configuration: Configuration) -> CommandTopic | None:
    """The control topic, or None where none is configured.

    Raises:
        ConfigurationError: there is a topic, and the sink is not Kafka.
    """
    found = control_settings(configuration)
    if found is None:
        return None
    from connectors.kafka import KafkaCommandTopic

    return KafkaCommandTopic(*found)


def make_shared(configuration: Configuration, changelog: str) -> tuple[SharedSource, Ledger]:
    """A source whose partitions are shared with other daemons, and what writes transactions in its membership.

    Args:
        configuration: with Kafka for source and sink.
        changelog: the topic of the state.

    Raises:
        ConfigurationError: the sections do not allow sharing.
    """
    if obstacle := sharing_obstacle(configuration.settings):
        got, expected = obstacle
        raise ConfigurationError(
            f"{configuration.where('state')}: state.changelog: {got}, expected {expected}"
        )
    from connectors.kafka import KafkaGroupSource, KafkaLedger, KafkaSinkSettings

    settings = source_settings(configuration)
    source = KafkaGroupSource(settings, Codec(layout_of(configuration.settings)))
    sink = _section(configuration, "sink", KafkaSinkSettings)
    return source, KafkaLedger(sink, changelog, settings.topic, lambda: source.member, shorter)


def sharing_obstacle(settings: Settings) -> tuple[str, str] | None:
    """Why the state cannot be kept in a changelog, as what is got and expected, or None."""
    for name, section in (("source", settings.source), ("sink", settings.sink)):
        if section.get("kind") != "kafka":
            return f"got {name}.kind {section.get('kind')!r}", "kafka for both: a transaction spans them"
    if settings.source.get("group", "") is None or settings.source.get("until") is not None:
        return "got a source without a group, or with an end", "a group: it is what the daemons share"
    servers = [set(section.get("bootstrap_servers", ())) for section in (settings.source, settings.sink)]
    if not servers[0] & servers[1]:
        return "source and sink have no bootstrap server in common", "one cluster: a transaction spans them"
    return None


def topic_name(configuration: Configuration) -> str:
    """Name of the input, for the alerts' origin."""
    section = configuration.settings.source
    return str(section.get("topic", section.get("kind", "memory")))


def _kind(configuration: Configuration, section: str, kinds: Sequence[str]) -> str:
    kind = getattr(configuration.settings, section).get("kind")
    if kind not in kinds:
        raise ConfigurationError(
            f"{configuration.where(section)}: {section}.kind: got {kind!r}, expected one of {', '.join(kinds)}"
        )
    return kind


def _section(configuration: Configuration, section: str, kind: type[Any]) -> Any:
    values = {k: v for k, v in getattr(configuration.settings, section).items() if k != "kind"}
    settings = convert(values, kind, configuration.path, configuration.document, (section,))
    return anchored(settings, configuration.folder)


def anchored(settings: Any, folder: Path) -> Any:
    """A connector's settings with the paths of secrets and certificates below ``folder`` where they are relative."""
    if not hasattr(settings, "security"):
        return settings
    return msgspec.structs.replace(settings, security=settings.security.anchored(folder))
