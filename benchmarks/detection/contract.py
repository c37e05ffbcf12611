"""What every section of the detection benchmark takes and gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from msgspec import Struct, field

Verdict = Literal["aim", "reached", "not reached", "not measured"]


class Teller:
    """What is told while a section runs; the default tells nothing."""

    def stage(self, name: str, total: int) -> None:
        """A stage of ``total`` steps begins."""

    def step(self, what: str) -> None:
        """One step of the stage is done, or begun when ``what`` names it."""

    def note(self, text: str) -> None:
        """Something that the user must know."""


class Request(NamedTuple):
    """What is asked of a section.

    Attributes:
        seeds: of training; a section that needs no seed takes none.
        quick: few files and faults: shows that everything works, not how well.
        data: folder of the data sets (``skab``, ``tep``), or of CSV series; None: `NUWATCH_DATA`.
        datasets: data sets by name; empty: the section's own.
        scorers: scorers by name; empty: all of the section's own.
        scores: folder for ``DATASET/SERIES.csv``; None: none are written.
        jobs: processes.
        keep: whether results of an earlier run of the same code and data may be taken, and are kept for a later one.
        teller: is told how it goes.
    """

    seeds: tuple[int, ...] = (0,)
    quick: bool = False
    data: Path | None = None
    datasets: tuple[str, ...] = ()
    scorers: tuple[str, ...] = ()
    scores: Path | None = None
    jobs: int = 1
    teller: Teller = Teller()
    keep: bool = False


class Table(Struct, frozen=True):
    """A table for people: of text only, so that every section rounds as its figures deserve.

    Attributes:
        title: what it shows.
        columns: headings.
        rows: cells, as many in each as there are columns.
        notes: below it: what was left out, how it was measured.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


class Bar(Struct, frozen=True):
    """A bar that the default configuration is measured against.

    Attributes:
        name: what is asked, with the data set.
        value: what was measured; None: could not be.
        must: must be reached.
        aim: is hoped for.
        higher: whether more is better; else less is.
    """

    name: str
    value: float | None
    must: float
    aim: float | None = None
    higher: bool = True

    @property
    def verdict(self) -> Verdict:
        """Whether the aim or the bar is reached."""
        if self.value is None or math.isnan(self.value):
            return "not measured"
        if self.aim is not None and self._meets(self.value, self.aim):
            return "aim"
        return "reached" if self._meets(self.value, self.must) else "not reached"

    def _meets(self, value: float, bound: float) -> bool:
        return value >= bound if self.higher else value <= bound


class Section(Struct, frozen=True):
    """What a section found.

    Attributes:
        name: of the section.
        tables: for people.
        bars: for the verdicts.
        figures: for programs, as `msgspec.json` writes it.
        notes: what a reader must know: what was refused, missing or assumed.
    """

    name: str
    tables: tuple[Table, ...] = ()
    bars: tuple[Bar, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()


Run = Callable[[Request], Section]
"""A section: ``run(request)``. It raises nothing for data or scorers that are refused, but says so."""


def text_of(table: Table) -> str:
    """A table for a terminal, its columns aligned; the first to the left, the others to the right."""
    cells = [table.columns, *table.rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    lines = [_aligned(row, widths) for row in cells]
    ruled = [table.title, lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
    return "\n".join([*ruled, *(f"  {note}" for note in table.notes)])


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *others])


def markdown(tables: Sequence[Table]) -> str:
    """Tables as Markdown, for the documentation."""
    return "\n\n".join(_markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    lines = [f"### {table.title}", "", _row(table.columns), _row(["---"] * len(table.columns))]
    lines += [_row(row) for row in table.rows]
    if table.notes:
        lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
