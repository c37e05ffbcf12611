"""The documentation against the code: what can drift without anybody noticing."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest

from connectors.files import FilesSourceSettings
from connectors.records import Reason
from docs import reference
from models.registry import built_in_names
from monitor.alerting.incidents import EventName, Kind
from monitor.cli import nuwatch
from monitor.configuration import decode_hook
from monitor.event_time.checks import Fault
from monitor.settings import Settings
from monitor.thresholds.decisions import parse_decision
from monitor.yaml_lines import load

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/README.md"),
        *ROOT.glob("benchmarks/*.md"),
    ]
)
SHELL = ("", "sh", "bash", "shell", "console")
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_QUOTE = re.compile(r"^<!-- from (?P<file>\S+) -->\n```text\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: Path, *languages: str) -> list[str]:
    found = _FENCE.finditer(page.read_text(encoding="utf-8"))
    return [match["body"] for match in found if match["language"] in languages]


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def calls(page: Path) -> list[list[str]]:
    """Every call of nuwatch in a page's shell blocks and inline code, without its comment, as words."""
    text = page.read_text(encoding="utf-8")
    lines = [line for body in blocks(page, *SHELL) for line in body.splitlines()]
    lines += re.findall(r"`(nuwatch [^`]+)`", _FENCE.sub("", text))
    commands = (line.split("#")[0].strip().removeprefix("$ ").removeprefix(".venv/bin/") for line in lines)
    return [command.split() for command in commands if command.startswith("nuwatch ")]


def test_the_configuration_page_is_what_the_types_say() -> None:
    assert reference.page() == reference.PAGE.read_text(encoding="utf-8"), "run: python -m docs.reference"


def test_the_configuration_page_has_every_key_with_a_meaning() -> None:
    rows = [line for line in reference.page().splitlines() if line.startswith("| `")]
    unexplained = [row for row in rows if row.rstrip().endswith("|  |") and "see below" not in row]
    assert unexplained == []
    sections = [section for top in (Settings, FilesSourceSettings) for section in reference.sections("", top)]
    keys = [field.name for section in sections for field in msgspec.structs.fields(section.kind)]
    assert {"nu", "lateness", "criticality", "restart"} <= set(keys)
    assert all(any(row.startswith(f"| `{key}` |") for row in rows) for key in keys)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in _LINK.findall(prose):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_exist(page: Path) -> None:
    context = click.Context(nuwatch)
    for _, command, *words in calls(page):
        if command.startswith("-") or not command.islower():
            continue
        known = nuwatch.get_command(context, command)
        assert known is not None, command
        if isinstance(known, click.Group) and words and not words[0].startswith("-"):
            known = known.get_command(context, words[0])
            assert known is not None, f"{command} {words[0]}"
        options = {name for parameter in known.params for name in parameter.opts} | {"--help", "-h"}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= options, f"{command}: {used - options}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    lines = [line for body in blocks(page, *SHELL) for line in body.splitlines()]
    used = [word for line in lines for word in re.findall(r"^make ([a-z-]+)", line)]
    used += re.findall(r"`make ([a-z-]+)`", text)
    assert set(used) <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page: Path) -> None:
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    tops = "monitor|models|connectors|tests|docs|examples|config|benchmarks"
    for name in re.findall(rf"`((?:{tops})/[\w./-]+)`", prose):
        if "NAME" not in name:
            assert (ROOT / name).exists() or (page.parent / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_quoted_output_is_what_a_command_printed(page: Path) -> None:
    for quote in _QUOTE.finditer(page.read_text(encoding="utf-8")):
        printed = [line.rstrip() for line in text_of(quote["file"]).splitlines()]
        quoted = [line.rstrip() for line in quote["body"].splitlines()]
        starts = range(len(printed) - len(quoted) + 1)
        assert any(printed[at : at + len(quoted)] == quoted for at in starts), quote["body"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_in_yaml_blocks_exist(page: Path) -> None:
    kinds = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    for body in blocks(page, "yaml"):
        for name, value in load(body).data.items():
            assert name in kinds
            if name == "recordings":
                msgspec.convert(value, FilesSourceSettings, dec_hook=decode_hook)


def test_every_reason_of_refusal_is_explained() -> None:
    page = text_of("docs/input-format.md")
    assert [reason for reason in Reason if f"| `{reason}` |" not in page] == []


def test_every_kind_event_and_fault_of_an_alert_is_explained() -> None:
    page = text_of("docs/alerts.md")
    names = [*Kind, *EventName, *(fault.name for fault in Fault if fault is not Fault.NONE)]
    assert [name for name in names if name not in page] == []


def test_every_scorer_has_a_section_and_is_in_the_overview() -> None:
    overview = text_of("docs/scorers.md")
    pages = overview + "".join(text_of(str(page)) for page in ROOT.glob("docs/scorers/*.md"))
    assert [name for name in built_in_names() if f"# `{name}`" not in pages] == []
    assert [name for name in built_in_names() if f"`{name}`" not in overview] == []


def test_the_decision_in_the_documentation_is_one() -> None:
    (line,) = blocks(ROOT / "docs/thresholds-and-drift.md", "json")
    assert parse_decision(line.encode(), "the page").by == "J. Roe"


def test_every_decision_record_says_what_else_was_considered_and_is_listed() -> None:
    index = text_of("docs/adr/README.md")
    records = sorted(path for path in (ROOT / "docs/adr").glob("0*.md"))
    numbers = [record.name[:4] for record in records]
    assert numbers == sorted(set(numbers)), "one number, one decision"
    for record in records:
        assert "**Alternatives considered.**" in record.read_text(encoding="utf-8")
        assert record.name in index


def test_every_page_can_be_reached_from_the_overview() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "docs/index.md", ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = [target.partition("#")[0] for target in _LINK.findall(page.read_text(encoding="utf-8"))]
        linked = [(page.parent / target).resolve() for target in targets if target.endswith(".md")]
        waiting += [path for path in linked if path.exists()]
    assert set(ROOT.glob("docs/**/*.md")) - seen == set()
