"""``python -m benchmarks.ocnn_paper``: the paper's experiments, as tables and JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from benchmarks.ocnn_paper import digits, mnist, synthetic
from benchmarks.ocnn_paper.kept import Kept
from benchmarks.ocnn_paper.tables import markdown


def main(words: list[str] | None = None) -> None:
    """Run what is asked for, and print its tables."""
    asked = _parser().parse_args(words)
    started, kept = time.monotonic(), Kept(asked.out)

    def tell(line: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {line}", file=sys.stderr, flush=True)

    if "synthetic" in asked.experiment:
        synthetic.run(tuple(range(asked.seeds)), kept, tell)
    if "mnist" in asked.experiment:
        digits.run(_digits(asked), kept, tell)
    _write(asked, kept)


def _write(asked: argparse.Namespace, kept: Kept) -> None:
    results = [one for one in kept.all() if one.experiment in asked.experiment]
    tables = markdown(results)
    print(tables)
    if asked.markdown is not None:
        asked.markdown.write_text(tables + "\n")
    if asked.json is not None:
        asked.json.write_text(json.dumps([one._asdict() for one in results], indent=1) + "\n")


def _digits(asked: argparse.Namespace) -> digits.Asked:
    return digits.Asked(
        file=asked.data,
        protocols=tuple(asked.protocol),
        methods=tuple(asked.methods),
        normals=tuple(asked.classes),
        seeds=tuple(range(asked.seeds)),
        together=asked.together,
        jobs=asked.jobs,
        deadline=asked.deadline,
        quick=asked.quick,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.ocnn_paper", description=__doc__)
    add = parser.add_argument
    add("--experiment", nargs="+", choices=("synthetic", "mnist"), default=["synthetic", "mnist"])
    add("--protocol", nargs="+", choices=mnist.PROTOCOLS, default=["one_class", "transductive"])
    add("--methods", nargs="+", choices=digits.METHODS, default=digits.DEFAULT, help="of MNIST")
    add("--classes", nargs="+", type=int, choices=mnist.DIGITS, default=mnist.DIGITS, help="normal digits")
    add("--seeds", type=int, default=10, metavar="N", help="seeds 0 to N - 1 (10)")
    add("--together", type=int, default=1, metavar="N", help="seeds trained at once (1); 3 on a large GPU")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes for what is no network")
    add(
        "--deadline",
        type=float,
        metavar="S",
        help="begin nothing new after so many seconds; 0: show what is kept",
    )
    add("--data", type=Path, default=mnist.default_file(), metavar="FILE", help="MNIST npz")
    add("--out", type=Path, default=Path("out/ocnn-paper"), metavar="FOLDER", help="kept results")
    add("--json", type=Path, metavar="FILE")
    add("--markdown", type=Path, metavar="FILE")
    add(
        "--quick",
        action="store_true",
        help="few images and epochs: shows that it works; not kept with the rest",
    )
    return parser


if __name__ == "__main__":
    main()
