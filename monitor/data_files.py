"""The example configurations, wherever nuwatch is installed."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE / "data" / "config", _HERE.parent / "config")
"""In a wheel the folder lies inside the package; in a checkout beside it."""


def example(name: str) -> str:
    """Text of an example configuration such as 'nuwatch.yaml'.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    for folder in _PLACES:
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8")
    raise FileNotFoundError(
        f"{name} is in none of {', '.join(map(str, _PLACES))}; hint: install nuwatch again"
    )
