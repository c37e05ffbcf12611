"""`nuwatch config show`: the effective configuration, without secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
import yaml

from monitor.configuration import Configuration, convert, read
from monitor.connect import sink_settings, source_settings

_HIDDEN = "(hidden)"
_SECRETS = frozenset({"password", "key_password", "token"})


def show_command(config: Path, as_json: bool) -> None:
    """Do what `nuwatch config show` says."""
    shown = effective(read(config))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    else:
        click.echo(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=110), nl=False)


def effective(configuration: Configuration) -> dict[str, Any]:
    """Every key with the value in force, as plain data.

    Raises:
        ConfigurationError: a section does not fit its connector.
    """
    shown = _plain(configuration.settings)
    for name, settings in (
        ("source", source_settings(configuration)),
        ("sink", sink_settings(configuration)),
    ):
        if settings is None:
            continue
        shown[name] = {"kind": shown[name]["kind"]} | without_secrets(_plain(settings))
        if hasattr(settings, "protocol"):
            shown[name]["security"]["protocol"] = settings.protocol
    if configuration.settings.recordings is not None:
        shown["recordings"] = _plain(_recordings(configuration))
    return shown


def _recordings(configuration: Configuration) -> Any:
    from connectors.files import FilesSourceSettings

    section = configuration.settings.recordings
    return convert(section, FilesSourceSettings, configuration.path, configuration.document, ("recordings",))


def _plain(settings: Any) -> dict[str, Any]:
    return msgspec.to_builtins(settings, enc_hook=_text)


def _text(value: Any) -> str:
    """A duration or an instant as it would be written in YAML."""
    return str(value)


def without_secrets(value: Any, name: str = "") -> Any:
    """The same data; where a secret could stand, only where it is read from is left."""
    if name in _SECRETS and value is not None:
        known = ("file", "env", "call")
        return {key: value[key] for key in known if value.get(key)} if isinstance(value, dict) else _HIDDEN
    if isinstance(value, dict):
        return {key: without_secrets(each, str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(each) for each in value]
    return value
