"""`nuwatch benchmark detection`: run the sections, print their tables and bars, write files."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.detection.contract import Bar, Request, Section, Table, Teller, text_of
from benchmarks.detection.contract import markdown as markdown_of
from benchmarks.detection.sections import SECTIONS, section
from benchmarks.detection.workers import cores
from monitor import __version__
from monitor.errors import StateError, UsageError

SEEDS: Final = 5
BEGIN: Final = "<!-- begin: nuwatch benchmark detection -->"
END: Final = "<!-- end: nuwatch benchmark detection -->"
_ALONE: Final = "detection"
"""The section that knows of data sets and score files."""
_LIBRARIES: Final = ("jax", "numpy", "scikit-learn")


class Asked(NamedTuple):
    """The command's options."""

    sections: tuple[str, ...]
    datasets: tuple[str, ...]
    data: Path | None
    scorers: tuple[str, ...]
    seeds: int | None
    quick: bool
    jobs: int | None
    json_file: Path | None
    markdown: Path | None
    scores: Path | None
    fresh: bool


def detection_command(asked: Asked) -> None:
    """Do what `nuwatch benchmark detection` says."""
    _keep_every_program()
    chosen = _sections(asked)
    found: list[Section] = []
    with _progress() as progress:
        for name in chosen:
            request = _request(asked, _Bars(progress))
            found.append(_run(name, request))
    for one in found:
        _print(one)
    if asked.json_file is not None:
        _write(asked.json_file, _json(asked, found))
    if asked.markdown is not None:
        _write(asked.markdown, _page(asked.markdown, found).encode())


def _keep_every_program() -> None:
    """Many small models are fitted one after the other: compiling for the shapes of each is most of the time."""
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def _sections(asked: Asked) -> tuple[str, ...]:
    for name in asked.sections:
        if name not in SECTIONS:
            raise UsageError(f"--section: got {name!r}, expected one of {', '.join(SECTIONS)}")
    if asked.sections:
        return asked.sections
    return (_ALONE,) if asked.datasets or asked.scores is not None else tuple(SECTIONS)


def _request(asked: Asked, teller: Teller) -> Request:
    few = asked.quick or asked.datasets == ("csv",)
    seeds = asked.seeds or (1 if few else SEEDS)
    return Request(
        tuple(range(seeds)),
        asked.quick,
        asked.data,
        asked.datasets,
        asked.scorers,
        asked.scores,
        asked.jobs or cores(),
        teller,
        not asked.fresh,
    )


def _run(name: str, request: Request) -> Section:
    try:
        run = section(name)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("tests"):
            raise
        raise UsageError(f"--section {name}: needs nuwatch's checkout, it is not in the package") from error
    return run(request)


def _print(found: Section) -> None:
    """Tables as aligned text: they are wider than a terminal, and lines that are not broken can be scrolled."""
    for table in found.tables:
        click.echo(f"\n{text_of(table)}")
    if found.bars:
        click.echo(f"\n{text_of(_bars_table(found.bars))}")
    for note in found.notes:
        click.echo(f"note: {note}")


def _bars_table(bars: Sequence[Bar]) -> Table:
    rows = [
        (
            bar.name,
            "-" if bar.value is None else f"{bar.value:.3g}",
            _bound(bar, bar.must),
            _bound(bar, bar.aim),
            bar.verdict,
        )
        for bar in bars
    ]
    columns = ("bar (default configuration, median of seeds)", "measured", "must", "aim", "verdict")
    return Table("Bars", columns, tuple(rows))


def _bound(bar: Bar, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{'>=' if bar.higher else '<='} {value:g}"


def _json(asked: Asked, found: Sequence[Section]) -> bytes:
    body: dict[str, Any] = {
        "nuwatch": __version__,
        "quick": asked.quick,
        "seeds": len(_request(asked, Teller()).seeds),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _LIBRARIES},
        "sections": {one.name: msgspec.to_builtins(one) for one in found},
        "bars": [{**msgspec.to_builtins(bar), "verdict": bar.verdict} for one in found for bar in one.bars],
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=1)


def _page(path: Path, found: Sequence[Section]) -> str:
    """The tables, between the page's markers if there is a page that has them."""
    parts = [markdown_of([*one.tables, *([_bars_table(one.bars)] if one.bars else [])]) for one in found]
    generated = "\n\n".join([BEGIN, *parts, END])
    page = path.read_text(encoding="utf-8") if path.is_file() else ""
    if BEGIN not in page or END not in page:
        return generated + "\n"
    return page[: page.index(BEGIN)] + generated + page[page.index(END) + len(END) :]


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error}") from None
    click.echo(f"written: {path}", err=True)


class _Bars(Teller):
    """A stage as a bar of ``progress``."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def stage(self, name: str, total: int) -> None:
        """Begin a bar."""
        self._task = self._progress.add_task(name, total=total, what="")

    def step(self, what: str) -> None:
        """Move it."""
        if self._task is not None:
            self._progress.update(self._task, advance=1, what=what)

    def note(self, text: str) -> None:
        """Print above the bars."""
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
        console=Console(stderr=True),
    )
