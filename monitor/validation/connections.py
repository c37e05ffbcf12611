"""The `source`, `sink` and `recordings` sections: their own types, secrets, and the files they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from connectors.errors import SettingsError, SourceError
from connectors.records import Layout
from monitor.connect import SINK_KINDS, SOURCE_KINDS, anchored
from monitor.settings import Settings
from monitor.validation.finding import Findings
from monitor.validation.schema import fit
from monitor.validation.scorers import closest
from monitor.yaml_lines import Document
from monitor.yaml_lines import Path as Steps


class Connections(NamedTuple):
    """Typed settings of the sections that fit, None for the others and for memory; paths start in ``folder``."""

    source: Any = None
    sink: Any = None
    recordings: Any = None
    folder: Path = Path()


def check_connections(settings: Settings, document: Document, file: Path, findings: Findings) -> Connections:
    """Check the three sections.

    Args:
        settings: the configuration.
        document: its lines.
        file: its name; relative paths start in its folder.
        findings: take what is wrong.
    """
    source = _checked("source", settings.source, SOURCE_KINDS, document, file, findings)
    sink = _checked("sink", settings.sink, SINK_KINDS, document, file, findings)
    recordings = None
    if settings.recordings is not None:
        recordings = _typed("recordings", "files", document, file, findings)
    _check_memory(settings, findings)
    if settings.control.topic is not None and settings.sink.get("kind") != "kafka":
        got = settings.sink.get("kind")
        findings.error(
            ("control", "topic"),
            f"got a sink of kind {got!r}, expected kafka: the topic is one of its cluster",
        )
    for name, typed in (("source", source), ("sink", sink)):
        _check_secrets(typed, (name,), findings)
    return Connections(source, sink, recordings, file.parent)


def check_files(connections: Connections, layout: Layout, findings: Findings) -> None:
    """Whether recordings are there and have the columns that the settings name.

    Missing files of `recordings` are only a warning: commands can be given other files.

    Args:
        connections: the sections' settings.
        layout: the sensors' tags.
        findings: take what is wrong.
    """
    for name in ("source", "recordings"):
        typed = getattr(connections, name)
        if hasattr(typed, "paths"):
            _check_mapping(typed, layout, connections.folder, (name,), findings)


def _checked(
    name: str,
    section: dict[str, Any],
    kinds: tuple[str, ...],
    document: Document,
    file: Path,
    findings: Findings,
) -> Any:
    kind = section.get("kind")
    if kind not in kinds:
        got = "no kind" if kind is None else f"unknown kind {kind!r}"
        findings.error((name, "kind"), got, closest(str(kind), kinds))
        return None
    return _typed(name, kind, document, file, findings) if name in document.data else None


def _typed(name: str, kind: str, document: Document, file: Path, findings: Findings) -> Any:
    wanted = _settings_type(name, kind)
    if wanted is None:
        return None
    kept = () if name == "recordings" else ("kind",)
    return anchored(fit(document, wanted, file, findings, (name,), kept).value, file.parent)


def _settings_type(name: str, kind: str) -> Any:
    if kind == "kafka":
        from connectors.kafka import KafkaSinkSettings, KafkaSourceSettings

        return KafkaSinkSettings if name == "sink" else KafkaSourceSettings
    if kind == "files":
        from connectors.files import FilesSinkSettings, FilesSourceSettings

        return FilesSinkSettings if name == "sink" else FilesSourceSettings
    return None


def _check_memory(settings: Settings, findings: Findings) -> None:
    if settings.sink.get("kind") == "memory":
        findings.warning(
            ("sink",), "alerts are kept in memory only and are lost", "kind: kafka or kind: files"
        )
    if settings.source.get("kind") == "memory":
        findings.warning(
            ("source",), "a memory source is fed by a program, not by a command", "kind: kafka or kind: files"
        )


def _check_secrets(typed: Any, at: Steps, findings: Findings) -> None:
    security = getattr(typed, "security", None)
    if security is None:
        return
    for name in ("password", "key_password", "token"):
        secret = getattr(security, name)
        try:
            if secret is not None:
                secret.read()
        except SettingsError as error:
            findings.error((*at, "security", name), str(error))
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(security, name)
        if path is not None and not Path(path).is_file():
            findings.error((*at, "security", name), f"no file {path!r}", "a PEM file that can be read")


def _check_mapping(typed: Any, layout: Layout, folder: Path, at: Steps, findings: Findings) -> None:
    from connectors.files import found
    from connectors.mapping import FileMapping

    _check_tags_named(typed, layout, at, findings)
    try:
        mapping = FileMapping(typed, layout)
    except SettingsError as error:
        findings.error(at, str(error))
        return
    try:
        paths = found(typed.paths, folder)
    except SourceError as error:
        report = findings.warning if at == ("recordings",) else findings.error
        hint = (
            "files there, or give files to `train` and `replay`" if at == ("recordings",) else "files there"
        )
        report((*at, "paths"), str(error).partition(";")[0], hint)
        return
    if not paths:
        findings.hint((*at, "paths"), "no paths: give files to `train` and `replay`")
    elif typed.format != "messages":
        _check_columns(typed, mapping, layout, paths[0], at, findings)


def _check_tags_named(typed: Any, layout: Layout, at: Steps, findings: Findings) -> None:
    tags = [sensor.tag for each in layout.classes for sensor in each.sensors]
    for name in ("sensors", "quality", "units"):
        for tag in getattr(typed, name):
            if tag not in tags:
                findings.error((*at, name, tag), f"no sensor has the tag {tag!r}", closest(tag, tags))


def _check_columns(
    typed: Any, mapping: Any, layout: Layout, path: Path, at: Steps, findings: Findings
) -> None:
    """The first file's header stands for all: the others are read when they are used."""
    from connectors.tables import TextFormat, column_names, kind_of

    text = TextFormat(typed.delimiter, typed.encoding, typed.skip_lines, typed.columns)
    try:
        names = column_names(path, kind_of(path) if typed.format == "auto" else typed.format, text)
        if not names:
            findings.warning((*at, "paths"), f"{path}: the file is empty")
            return
        mapping.wanted(path, names)
    except SourceError as error:
        message, _, hint = str(error).partition("; hint: ")
        findings.error((*at, "paths"), message, hint)
        return
    if typed.shape == "wide":
        _check_sensors_have_columns(typed, layout, names, path, at, findings)


def _check_sensors_have_columns(
    typed: Any, layout: Layout, names: tuple[str, ...], path: Path, at: Steps, findings: Findings
) -> None:
    tags = dict.fromkeys(sensor.tag for each in layout.classes for sensor in each.sensors)
    lost = [tag for tag in tags if tag not in (typed.sensors or names)]
    if lost and len(layout.classes) == 1:
        findings.hint(
            at,
            f"{path.name} has no column for {', '.join(lost)}",
            "nothing to do for derived sensors; map the others with `sensors`",
        )
