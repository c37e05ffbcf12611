"""Where the real data sets are: NUWATCH_DATA, then ../shared/data beside the checkout; else a skip by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parent.parent


def data_folder(name: str) -> Path:
    """Folder of a data set; skips the test that asks where there is none."""
    places = [Path(os.environ["NUWATCH_DATA"])] if "NUWATCH_DATA" in os.environ else []
    for place in (*places, _CHECKOUT.parent / "shared" / "data"):
        if (place / name).is_dir():
            return place / name
    pytest.skip(f"no data set {name!r}: set NUWATCH_DATA to the folder that holds it")
