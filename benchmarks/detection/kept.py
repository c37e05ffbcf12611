"""Results kept on disk by what they are a function of, so that an interrupted run goes on where it stopped.

The name of a result is a hash of the code (every module of nuwatch and of this benchmark), the libraries' versions, the
machine's kind, the data, the settings and the contender. Scorers of other packages are never kept: nothing is known
of their code.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks.detection.data import DataSet
from benchmarks.detection.result import Result

_PACKAGES: Final = ("monitor", "models", "connectors", "benchmarks")
_LIBRARIES: Final = ("jax", "jaxlib", "numpy", "scipy", "scikit-learn", "optax", "flax", "river")


def folder() -> Path:
    """Where results are kept."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "nuwatch" / "detection"


def name_of(dataset: DataSet, settings: Iterable[Any], contender: Any, seed: int) -> str:
    """The name of a result."""
    digest = hashlib.sha256(_code().encode())
    for part in (*settings, contender, seed):
        digest.update(repr(part).encode())
    digest.update(_data(dataset).encode())
    return digest.hexdigest()


def get(name: str) -> Result | None:
    """What is kept under a name; None if nothing is, or nothing that can be read."""
    try:
        return msgspec.msgpack.decode((folder() / name).read_bytes(), type=Result)
    except (OSError, msgspec.MsgspecError):
        return None


def put(name: str, result: Result) -> None:
    """Keep a result; a folder that cannot be written keeps nothing."""
    path = folder() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(f".{os.getpid()}")
        half.write_bytes(msgspec.msgpack.encode(result))
        half.replace(path)
    except OSError:
        return


@functools.cache
def _code() -> str:
    """A hash of all code that a result depends on."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(one for package in _PACKAGES for one in (root / package).rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    about = [platform.machine(), platform.python_version(), *(version(name) for name in _LIBRARIES)]
    digest.update(" ".join(about).encode())
    return digest.hexdigest()


def _data(dataset: DataSet) -> str:
    digest = hashlib.sha256(dataset.name.encode())
    for model in dataset.models:
        digest.update(repr((model.name, model.sensors)).encode())
        for series in (*model.learn, *model.judge):
            digest.update(repr((series.name, series.kind, series.contexts)).encode())
            for column in (series.time, series.values, series.label, series.split, series.context):
                digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
