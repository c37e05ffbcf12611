"""Start-up: the help page, and a process from nothing to a warm program."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.measure import Figure, Scale, Spent
from benchmarks.plant import configuration, trained
from monitor.bundles import write_bundle

ROOT = Path(__file__).resolve().parent.parent
_READY = """
from pathlib import Path
from monitor.configuration import read
from monitor.cli.common import load_models
load_models(read(Path("plant.yaml")))
"""
_IMPORTS = "import monitor.cli.jobs.run"


def run(scale: Scale) -> list[Figure]:
    """CPU and wall seconds of child processes, turn by turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plant.yaml").write_text(configuration(scale))
        write_bundle(trained(scale).bundle, folder / "bundle")
        python, cached = sys.executable, _cache(folder)
        children: dict[str, tuple[list[str], Mapping[str, str]]] = {
            "python -c pass": ([python, "-c", "pass"], {}),
            "nuwatch --help": ([python, "-m", "monitor", "--help"], {}),
            "imports of the daemon": ([python, "-c", _IMPORTS], {}),
            "ready to score, nothing cached": ([python, "-c", _READY], {}),
            "ready to score, compilation cache": ([python, "-c", _READY], cached),
        }
        spent: dict[str, list[Spent]] = {name: [] for name in children}
        for turn in range(max(3, scale.rounds) + 1 if scale.rounds > 2 else 2):
            for name, (command, environment) in children.items():
                used = _child(command, folder, environment)
                if turn:
                    spent[name].append(used)
    return [
        Figure("a new process", name, "s", median(s.cpu for s in mine), median(s.wall for s in mine))
        for name, mine in spent.items()
    ]


def _cache(folder: Path) -> dict[str, str]:
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def _child(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Spent:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
    before, begun = _children_cpu(), time.perf_counter()
    subprocess.run(
        command,
        cwd=folder,
        env={**plain, "PYTHONPATH": str(ROOT), **environment},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return Spent(_children_cpu() - before, time.perf_counter() - begun)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
