"""Quality words and status codes of OPC UA as `Quality` codes.

Words are case-insensitive: GOOD, UNCERTAIN, BAD, and the names of OPC UA status codes that begin with them
(`Bad_SensorFailure`, `UncertainLastUsableValue`; OPC UA Part 8). Numbers are 32-bit OPC UA status codes, of
which the top two bits decide (Part 4, 7.39): 00 good, 01 uncertain, 10 bad, 11 reserved and therefore bad.
Numbers from 1 to 65535 carry no status at all and are what OPC Classic would send (192 = good, 64 =
uncertain): they are refused rather than read as GOOD.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from connectors.records import Quality

_WORD = re.compile(r"(good|uncertain|bad)(?:_?[a-z]{1,60})?", re.IGNORECASE)
_BY_TOP_BITS = (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.BAD)

EXPECTED = "expected GOOD, UNCERTAIN, BAD or a 32-bit OPC UA status code (OPC Classic's 0 to 255 are refused)"


def quality_code(word: str | int | None) -> int | None:
    """The `Quality` of a word or status code; GOOD for None (not said); None where it is neither."""
    if word is None:
        return int(Quality.GOOD)
    if isinstance(word, int):
        return _of_status(word)
    return _of_word(word) if len(word) <= 80 else None


def _of_status(status: int) -> int | None:
    if status == 0:
        return int(Quality.GOOD)
    return int(_BY_TOP_BITS[status >> 30]) if 0xFFFF < status < 2**32 else None


@lru_cache(maxsize=1024)
def _of_word(word: str) -> int | None:
    match = _WORD.fullmatch(word.strip())
    return int(Quality[match[1].upper()]) if match else None


def graded(
    values: NDArray[np.float64], absent: NDArray[np.bool_], said: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Quality of values from what was said of them; sets non-finite values to NaN in place.

    Args:
        values: any shape; NaN where absent.
        absent: same shape, True where there is no value.
        said: same shape, the sender's GOOD, UNCERTAIN or BAD; None means GOOD throughout.

    Returns:
        Same shape: what was said where there is a finite value; BAD where that was said; else ABSENT or
        NON_FINITE.
    """
    if said is None:
        code = np.full(values.shape, Quality.GOOD, dtype=np.uint8)
        usable_without_value = np.zeros(values.shape, dtype=np.bool_)
    else:
        code = said.copy()
        usable_without_value = said == Quality.BAD
    broken = ~np.isfinite(values)
    values[broken] = np.nan
    lost = broken & ~usable_without_value
    code[lost & absent] = Quality.ABSENT
    code[lost & ~absent] = Quality.NON_FINITE
    return code
