"""A whole configuration file, checked."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from monitor.connect import layout_of, sharing_obstacle
from monitor.settings import Settings
from monitor.validation.bundles import check_bundles
from monitor.validation.connections import Connections, check_connections, check_files
from monitor.validation.finding import Findings
from monitor.validation.patterns import covers, overlap
from monitor.validation.rules import check_class
from monitor.validation.schema import fit
from monitor.validation.scorers import check_scorers
from monitor.yaml_lines import Document, YamlError, load


class Checked(NamedTuple):
    """A checked file.

    Attributes:
        findings: what was found.
        settings: what could be read; None where too much was missing.
        connections: typed settings of the connectors.
    """

    findings: Findings
    settings: Settings | None = None
    connections: Connections = Connections()


def check(file: Path) -> Checked:
    """Check a configuration file and what lies beside it; nothing is asked of a network."""
    try:
        document = load(file.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "a configuration file; `nuwatch init` writes one"
        return _unread(file, 1, f"cannot read the configuration: {error.strerror}", hint)
    except UnicodeDecodeError:
        return _unread(file, 1, "the file is no UTF-8 text", "UTF-8")
    except YamlError as error:
        message, _, hint = str(error).partition("; hint: ")
        return _unread(file, error.line, message, hint)
    return _check_document(document, file)


def _unread(file: Path, line: int, message: str, expected: str) -> Checked:
    findings = Findings(str(file), Document(None, {(): line}))
    findings.error((), message, expected)
    return Checked(findings)


def _check_document(document: Document, file: Path) -> Checked:
    misfits = Findings(str(file), document)
    settings, removed = fit(document, Settings, file, misfits)
    if settings is None:
        return Checked(misfits)
    rules = Findings(str(file), document)
    connections = check_connections(settings, document, file, rules)
    check_settings(settings, rules)
    if not removed:
        # a default in the place of a misfit must not be blamed for what lies beside the file
        check_files(connections, layout_of(settings), rules)
        check_bundles(settings, file.parent, rules)
    return Checked(misfits.joined(rules.without(removed)), settings, connections)


def check_settings(settings: Settings, findings: Findings) -> None:
    """Rules of the configuration by itself: nothing is read and nothing is asked."""
    findings.require(
        bool(settings.site.strip()), ("site",), "no name", "the plant's name, as alerts will carry it"
    )
    _check_times(settings, findings)
    _check_limits(settings, findings)
    classes = settings.asset_classes
    findings.require(bool(classes), ("asset_classes",), "nothing is watched", "at least one asset class")
    for name, asset_class in classes.items():
        check_class(asset_class, ("asset_classes", name), findings)
        check_scorers(asset_class.scoring, ("asset_classes", name, "scoring"), findings)
    for first, second in combinations(classes, 2):
        _check_assets(settings, first, second, findings)
        _check_folders(settings, first, second, findings)


def _check_times(settings: Settings, findings: Findings) -> None:
    earliest, latest = settings.times.range
    findings.require(
        earliest < latest, ("times", "range"), f"{earliest} is not before {latest}", "[earliest, latest]"
    )
    if settings.times.zone is not None:
        try:
            ZoneInfo(settings.times.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            findings.error(
                ("times", "zone"),
                f"unknown time zone {settings.times.zone!r}",
                "an IANA name like Europe/Berlin",
            )


def _check_limits(settings: Settings, findings: Findings) -> None:
    state = settings.state
    findings.require(state.interval > 0, ("state", "interval"), "got 0s", "a time above 0s")
    findings.require(state.drain > 0, ("state", "drain"), "got 0s", "a time above 0s")
    findings.require(state.outbox >= 1, ("state", "outbox"), f"got {state.outbox}", "1 event or more")
    if state.changelog is not None and (obstacle := sharing_obstacle(settings)):
        findings.error(("state", "changelog"), *obstacle)
    findings.require(
        settings.max_record >= 1, ("max_record",), f"got {settings.max_record}", "bytes, 1 or more"
    )


def _check_assets(settings: Settings, first: str, second: str, findings: Findings) -> None:
    """An asset belongs to the first class with a pattern that fits it; the second one never sees it."""
    for b in settings.asset_classes[second].assets:
        for a in settings.asset_classes[first].assets:
            at = ("asset_classes", second, "assets")
            if covers(a, b):
                findings.error(
                    at, f"{b!r} names assets that class {first!r} takes with {a!r}", "other assets"
                )
            elif overlap(a, b):
                findings.warning(
                    at,
                    f"{b!r} and {a!r} of class {first!r} overlap: the first class takes what fits both",
                    "one class",
                )


def _check_folders(settings: Settings, first: str, second: str, findings: Findings) -> None:
    same = Path(settings.asset_classes[first].bundle) == Path(settings.asset_classes[second].bundle)
    if same:
        findings.error(
            ("asset_classes", second, "bundle"),
            f"the bundle's folder {settings.asset_classes[second].bundle!r} is that of class {first!r} too",
            f"a folder of its own, such as bundle: bundles/{second}",
        )
