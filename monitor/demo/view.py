"""The board as a person sees it: a live view on a terminal of at least 80 x 24, plain lines elsewhere."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from connectors.records import NO_CONTEXT
from monitor.demo.board import Board, Note, Reactor
from monitor.plant.sensors import SENSORS
from monitor.quantities import NS_PER_S, Instant, iso_time

_COLUMNS: Final = (
    ("temperature", "T", "{:z.1f}"),
    ("pressure", "p", "{:z.2f}"),
    ("jacket_temperature", "jacket", "{:z.1f}"),
    ("feed_rate", "feed", "{:z.1f}"),
    ("agitator_power", "stirrer", "{:z.3f}"),
    ("coolant_valve", "valve", "{:z.0f}"),
)
"""Sensor, heading and format; `reaction_time` is a column of its own, in minutes."""
_NAMES: Final = [sensor.name for sensor in SENSORS]
_UNITS: Final = {sensor.name: sensor.unit.replace("Cel", "°C") for sensor in SENSORS}
_SHOWN_OPEN: Final = 4
_SHOWN_RECENT: Final = 5
_BAR: Final = 12
"""Cells of a ratio's bar; the limit is in its middle."""
_COLOURS: Final = {"RAISED": "red", "CLEARED": "green"}


class Show(Protocol):
    """Where the board is shown."""

    def update(self, notes: list[Note]) -> None:
        """The board has changed; ``notes`` are new."""
        ...


@contextmanager
def shown(board: Board, console: Console) -> Generator[Show]:
    """A live view where the console is a terminal, else plain lines."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(picture(board, console), console=console, auto_refresh=False) as live:
        yield _Live(board, console, live)


class _Live:
    def __init__(self, board: Board, console: Console, live: Live) -> None:
        self._board, self._console, self._live = board, console, live

    def update(self, notes: list[Note]) -> None:
        del notes
        self._live.update(picture(self._board, self._console), refresh=True)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console

    def update(self, notes: list[Note]) -> None:
        for note in notes:
            if note.event != "UPDATED":
                line = f"{_minute(note.time)}  {note.event:<7}  {note.asset}  {note.kind:<12}  {note.text}"
                self._console.print(Text(line), soft_wrap=True)


def picture(board: Board, console: Console) -> RenderableType:
    """The whole view, at most 24 lines."""
    return Group(
        _head(board),
        _reactors(board, console.options.ascii_only),
        _acting(board),
        Text(),
        _notes(f"open incidents: {len(board.open)}", list(board.open.values())[-_SHOWN_OPEN:], _SHOWN_OPEN),
        _notes("latest alerts", list(board.recent)[-_SHOWN_RECENT:], _SHOWN_RECENT),
    )


def _head(board: Board) -> RenderableType:
    share = (board.now_ns - board.begin_ns) / (board.end_ns - board.begin_ns)
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(
        Text(f"plant time {iso_time(board.now_ns)[:10]} {_minute(iso_time(board.now_ns))}", style="bold"),
        ProgressBar(total=1.0, completed=share),
        Text(f"{board.windows:,} windows scored"),
    )
    return grid


def _reactors(board: Board, ascii_only: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for heading in ("reactor\n", "phase\n", "time\nmin"):
        table.add_column(heading, justify="right" if "min" in heading else "left", no_wrap=True, min_width=6)
    for sensor, heading, _ in _COLUMNS:
        table.add_column(f"{heading}\n{_UNITS[sensor]}", justify="right", no_wrap=True, min_width=5)
    table.add_column("ratio\n" + "| limit".rjust(_BAR // 2 + len("| limit")), no_wrap=True)
    for asset, reactor in board.reactors.items():
        alarmed = any(note.asset == asset for note in board.open.values())
        name = Text(asset.rpartition("/")[2], style="bold red" if alarmed else "bold")
        minutes = f"{reactor.values[_NAMES.index('reaction_time')] / 60.0:.0f}"
        table.add_row(name, _phase(reactor), minutes, *_readings(reactor), _ratio(reactor.ratio, ascii_only))
    return table


def _phase(reactor: Reactor) -> Text:
    if reactor.context == NO_CONTEXT:
        return Text("idle", style="dim")
    return Text(str(reactor.context.phase))


def _readings(reactor: Reactor) -> Iterator[str]:
    for sensor, _, form in _COLUMNS:
        yield form.format(reactor.values[_NAMES.index(sensor)])


def _ratio(ratio: float, ascii_only: bool) -> Text:
    """A bar up to twice the limit, and the number."""
    if not math.isfinite(ratio):
        return Text(" " * (_BAR // 2) + "|", style="dim")
    full, mark = ("#", "|") if ascii_only else ("█", "│")
    cells = min(_BAR, max(0, round(ratio * _BAR / 2)))
    bar = (full * cells).ljust(_BAR)
    middle = _BAR // 2
    colour = "red" if ratio > 1.0 else "yellow" if ratio > 0.8 else "green"
    return Text.assemble((bar[:middle], colour), mark, (bar[middle:], colour), f"{ratio:z5.1f}")


def _acting(board: Board) -> Text:
    acting = ", ".join(f"{p.asset.rpartition('/')[2]} {p.name}" for p in board.acting())
    return Text(f"planted now: {acting or 'nothing'}", style="dim", no_wrap=True, overflow="ellipsis")


def _notes(title: str, notes: list[Note], lines: int) -> RenderableType:
    """A title and so many lines, filled up so that nothing below jumps."""
    rows = [_line(note) for note in notes]
    return Group(Text(title, style="bold"), *rows, *[Text() for _ in range(lines - len(rows))])


def _line(note: Note) -> Text:
    reactor = note.asset.rpartition("/")[2]
    style = _COLOURS.get(note.event, "") if note.kind in ("ANOMALY", "SENSOR_FAULT") else "cyan"
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"  {_minute(note.time)} {reactor} ")
    text.append(f"{note.event:<7} ", style=style)
    text.append(note.text)
    return text


def _minute(time: str) -> str:
    return datetime.fromtimestamp(Instant.parse(time) // NS_PER_S, UTC).strftime("%a %H:%M")
