"""The sections of `nuwatch benchmark detection`: add yours as one line, ``name: "module:function"``.

The function takes a `Request` and gives a `Section` (`benchmarks.detection.contract`). Its module is imported only
when the section is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final

from benchmarks.detection.contract import Run

SECTIONS: Final[Mapping[str, str]] = {
    "detection": "benchmarks.detection.detect:detection",
    "drift": "benchmarks.detection.drift:drift",
    "attribution": "benchmarks.detection.attribution:attribution",
    "false_alarms": "benchmarks.detection.false_alarms:false_alarms",
    "few_rows": "benchmarks.detection.few_rows:few_rows",
    "ablations": "benchmarks.detection.ablations:ablations",
}
"""Where each section's function is, in the order in which they run."""


def section(name: str) -> Run:
    """The function of a section.

    Raises:
        KeyError: there is none of this name.
    """
    module, _, function = SECTIONS[name].partition(":")
    return getattr(importlib.import_module(module), function)
