"""``python -m benchmarks.speed``: measure, print tables, write ``out/bench/<section>.json``."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.measure import FULL, QUICK, Figure, Scale, machine, use_one_core

SECTIONS = {
    "decode": "Decode: bytes to columnar batches",
    "window": "Window: event-time grid and history",
    "score": "Score: compiled scorers",
    "fold": "Fold: behind the scores",
    "path": "Whole path: JSON bytes to alerts, in memory",
    "snapshot": "Snapshot: state to disk",
    "startup": "Start-up",
    "kafka": "Kafka: real broker, daemon as a process",
    "sharing": "Sharing: what transactions cost a reader, real broker",
}
_MODULES = {"kafka": "kafka_path", "sharing": "shared_path"}
_ALL_CORES = frozenset({"startup", "kafka", "sharing"})
"""Sections of other processes, which may use every core as they would in a plant."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen sections."""
    wanted = _parser().parse_args(arguments)
    left_out = {"kafka", "sharing"} if wanted.no_kafka else set[str]()
    every_core = use_one_core()
    console = Console(width=None if sys.stdout.isatty() else 130)
    for section in wanted.sections or [name for name in SECTIONS if name not in left_out]:
        if section in _ALL_CORES:
            every_core()
        _measure(section, QUICK if wanted.quick else FULL, wanted.out, console)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", type=_section, help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, not how fast")
    parser.add_argument("--no-kafka", action="store_true", help="leave out what needs a broker")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder of the JSON files")
    return parser


def _section(name: str) -> str:
    if name not in SECTIONS:
        raise argparse.ArgumentTypeError(f"got {name!r}, expected one of {', '.join(SECTIONS)}")
    return name


def _measure(section: str, scale: Scale, out: Path, console: Console) -> None:
    before, begun = machine(), time.monotonic()
    figures = importlib.import_module(f"benchmarks.{_MODULES.get(section, section)}").run(scale)
    console.print(_table(SECTIONS[section], figures))
    console.print(f"load {before['load'][0]} on {before['cores']} cores, {time.monotonic() - begun:.0f} s\n")
    out.mkdir(parents=True, exist_ok=True)
    result = {
        "section": section,
        "machine": before,
        "load_after": machine()["load"],
        "scale": scale._asdict(),
        "figures": figures,
    }
    (out / f"{section}.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)))


def _table(title: str, figures: Sequence[Figure]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("case", "unit"):
        table.add_column(name, overflow="fold")
    for name in ("by CPU time", "by the clock", "CPU time, times the first"):
        table.add_column(name, justify="right")
    for case, group in groupby(figures, key=lambda figure: figure.case):
        table.add_row(f"[bold]{escape(case)}")
        for one in group:
            ratio = "" if one.times is None else f"{one.times:.2f}"
            table.add_row(f"  {escape(one.name)}", one.unit, _shown(one.cpu), _shown(one.wall), ratio)
        table.add_section()
    return table


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
