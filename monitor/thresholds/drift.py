"""Drift of the normal scores: river's detectors behind a finite guard, restored bit for bit from plain bytes.

A detector is fed with calibration ranks in [0, 1], one per autocorrelation time, so that its input is bounded
and close to independent, as ADWIN assumes (Bifet & Gavalda, SDM 2007). What it compares is the stream with
its own past: a shift that happened before the first update is not seen.

**One setting, three detectors.** `delta` is ADWIN's confidence. It is a bound and far from tight, so what
counts is measured: false drifts per million updates on independent U(0, 1) ranks (river 0.26.1, clock 32).

| delta | updates | false drifts | per million |
|------:|--------:|-------------:|------------:|
| 0.002 |    1e8  |           3  |       0.03  |
| 0.005 |    5e7  |           5  |       0.10  |
| 0.01  |    4e7  |          17  |       0.43  |
| 0.02  |    1e7  |          10  |        1.0  |
| 0.05  |    1e7  |          26  |        2.6  |
| 0.1   |    1e7  |          75  |        7.5  |
| 0.2   |    5e6  |         116  |       23    |
| 0.5   |    5e6  |         418  |       84    |
| 1.0   |    2e6  |         530  |      265    |

PageHinkley's threshold and KSWIN's alpha are chosen so that they raise false drifts at the same rate: the
first by Siegmund's formula for the run length of a two-sided cumulative sum ("Sequential Analysis", 1985, eq.
2.57), whose prediction was within 30 % of measured rates; the second by its measured 0.24 to 0.38 alpha per
update. PageHinkley runs without river's forgetting factor: with the default 0.9999 its sums level off after
10 000 updates and then random wandering alone crosses the threshold (measured: 63 false drifts per million
where 0.04 are expected).

KSWIN compares the last 100 values with 100 of the 200 before them; at such low rates it sees only large,
sudden shifts, and costs 0.25 ms an update where the others cost 1 us. ADWIN is the default for good reason.
"""

from __future__ import annotations

import math
import random
import struct
import zlib
from collections import deque
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any, Literal, NamedTuple, Protocol, cast

import msgspec
import numpy as np

Kind = Literal["adwin", "page_hinkley", "kswin", "none"]

_FALSE_DRIFTS = {
    0.002: 0.03,
    0.005: 0.1,
    0.01: 0.43,
    0.02: 1.0,
    0.05: 2.6,
    0.1: 7.5,
    0.2: 23.0,
    0.5: 84.0,
    1.0: 265.0,
}
"""delta -> ADWIN's false drifts per million updates, as measured (the table above)."""
_SMALLEST_SHIFT = 0.1
"""PageHinkley is tuned to shifts of the mean rank of at least this size (its allowance is half of it)."""
_KSWIN_RATE = 0.3
"""KSWIN's false drifts per update, over alpha, at a window of 300 with 100 compared."""
_RECENT = 32
"""Values that count as new when a drift is described; ADWIN looks for a cut every 32 updates."""
_CHECKSUM = struct.Struct("<I")


class Detector:
    """A drift detector: `update` with ranks, `to_bytes` and `from_bytes` between any two updates.

    A value that is not finite is counted in `rejected` and not passed on: one NaN would blind river's ADWIN
    and PageHinkley for ever. The object is deterministic: the same seed and values give the same drifts.

    Args:
        kind: river's detector; 'none' never fires.
        delta: ADWIN's confidence in (0, 1]; the others are set to the same rate of false drifts.
        seed: of KSWIN's sampling.

    Raises:
        ValueError: delta is not in (0, 1].
    """

    def __init__(self, kind: Kind, delta: float, seed: int = 0) -> None:
        if not 0.0 < delta <= 1.0:
            raise ValueError(f"delta: expected a number in (0, 1], got {delta!r}; hint: the default is 0.002")
        self.kind: Kind = kind
        self.delta = delta
        self.seed = seed
        self.updates = 0
        self.rejected = 0
        self._fired = False
        self._sum = 0.0
        self._recent = deque[float](maxlen=_RECENT)
        self._engine: _Engine = _ENGINES[kind](delta, seed)

    def update(self, value: float) -> bool:
        """Take one rank; True when the distribution has moved: then the next value starts afresh."""
        value = float(value)  # a NumPy scalar would find its way into the saved state
        if not math.isfinite(value):
            self.rejected += 1
            return False
        if self._fired:
            self.updates, self._sum = 0, 0.0
            self._recent.clear()
        self.updates += 1
        self._sum += value
        self._recent.append(value)
        self._fired = self._engine.update(value)
        return self._fired

    def means(self) -> tuple[float, float]:
        """Mean rank of the values before the last 32, and of the last 32; NaN where there are none."""
        new = math.fsum(self._recent)
        older = self.updates - len(self._recent)
        old_mean = (self._sum - new) / older if older else math.nan
        return old_mean, new / len(self._recent) if self._recent else math.nan

    def to_bytes(self) -> bytes:
        """The whole state, stamped with river's minor version and a checksum."""
        body = msgspec.msgpack.encode(
            _Saved(
                river=_river(),
                kind=self.kind,
                delta=self.delta,
                seed=self.seed,
                updates=self.updates,
                rejected=self.rejected,
                fired=self._fired,
                total=self._sum,
                recent=tuple(self._recent),
                state=self._engine.to_bytes(),
            )
        )
        return _CHECKSUM.pack(zlib.crc32(body)) + body

    def _restore(self, saved: _Saved) -> None:
        self.updates, self.rejected = saved.updates, saved.rejected
        self._fired, self._sum = saved.fired, saved.total
        self._recent.extend(saved.recent)
        self._engine.from_bytes(saved.state)


class Restored(NamedTuple):
    """A detector from bytes.

    Attributes:
        detector: continues exactly where the saved one was, or is fresh.
        reset: it is fresh, because the bytes are of another river version or of other settings.
        reason: why, for the journal; '' if not reset.
    """

    detector: Detector
    reset: bool
    reason: str


def from_bytes(data: bytes, kind: Kind, delta: float, seed: int = 0) -> Restored:
    """Put back what `Detector.to_bytes` gave, if it was made by this river minor version with these settings.

    Raises:
        ValueError: the bytes are damaged. They never reach river, which would abort the thread or accept
            garbage.
    """
    fresh, saved = Detector(kind, delta, seed), _decode(data)
    for what, before, now in (
        ("river", saved.river, _river()),
        ("detector", saved.kind, kind),
        ("delta", saved.delta, delta),
        ("seed", saved.seed, seed),
    ):
        if before != now:
            return Restored(fresh, True, f"drift detector starts afresh: {what} was {before}, is {now}")
    fresh._restore(saved)  # pyright: ignore[reportPrivateUsage] - the other half of to_bytes
    return Restored(fresh, False, "")


def expected_false_drifts(delta: float, updates_per_year: float) -> float:
    """False drifts to expect per year of unchanged, independent ranks, from the measured table.

    Args:
        delta: in (0, 1]; between measured values interpolated on logarithmic axes, below them in proportion.
        updates_per_year: windows per year over the thinning period, of one asset and scorer.
    """
    deltas, rates = np.array(list(_FALSE_DRIFTS)), np.array(list(_FALSE_DRIFTS.values()))
    per_million = math.exp(float(np.interp(math.log(delta), np.log(deltas), np.log(rates))))
    return per_million * min(1.0, delta / float(deltas[0])) * updates_per_year / 1e6


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    river: str
    kind: Kind
    delta: float
    seed: int
    updates: int
    rejected: int
    fired: bool
    total: float
    recent: tuple[float, ...]
    state: bytes


def _decode(data: bytes) -> _Saved:
    head, body = data[: _CHECKSUM.size], data[_CHECKSUM.size :]
    if len(head) < _CHECKSUM.size or _CHECKSUM.unpack(head) != (zlib.crc32(body),):
        raise ValueError(
            f"drift state: the checksum of {len(data)} bytes does not match; hint: the snapshot is damaged"
        )
    try:
        return msgspec.msgpack.decode(body, type=_Saved)
    except msgspec.DecodeError as error:
        raise ValueError(f"drift state: of another layout than this version's: {error}") from error


@cache  # it is read from river's package metadata, and asked for by every detector that is saved
def _river() -> str:
    """The minor version of river: within one, the opaque state of its Rust objects keeps its layout."""
    return ".".join(version("river").split(".")[:2])


class _Engine(Protocol):
    """One of river's detectors, with its private state as bytes (which is why river is pinned)."""

    def update(self, value: float) -> bool: ...
    def to_bytes(self) -> bytes: ...
    def from_bytes(self, state: bytes) -> None: ...


class _Adwin:
    """Its window lives in a Rust object, whose own `__getstate__` gives 0.2 to 3 kB of plain, exact bytes."""

    def __init__(self, delta: float, seed: int) -> None:
        from river.drift import ADWIN  # river takes a second to import; --help must not wait for it

        del seed
        self._detector = ADWIN(delta=delta)

    def update(self, value: float) -> bool:
        self._detector.update(value)
        return bool(self._detector.drift_detected)

    def to_bytes(self) -> bytes:
        private = vars(self._detector)
        return bytes([private["_drift_detected"]]) + cast("bytes", private["_helper"].__getstate__())

    def from_bytes(self, state: bytes) -> None:
        private = vars(self._detector)
        private["_drift_detected"] = bool(state[0])
        private["_helper"].__setstate__(state[1:])


class _PageHinkley:
    _SUMS = ("_sum_increase", "_sum_decrease", "_min_increase", "_max_decrease")
    _LAYOUT = struct.Struct("<?6d")

    def __init__(self, delta: float, seed: int) -> None:
        from river.drift import PageHinkley

        del seed
        self._detector = PageHinkley(delta=_SMALLEST_SHIFT / 2, threshold=_page_threshold(delta), alpha=1.0)

    def update(self, value: float) -> bool:
        self._detector.update(value)
        return bool(self._detector.drift_detected)

    def to_bytes(self) -> bytes:
        private = vars(self._detector)
        mean = vars(private["_x_mean"])
        sums = [float(private[name]) for name in self._SUMS]
        return self._LAYOUT.pack(private["_drift_detected"], *sums, mean["n"], mean["_mean"])

    def from_bytes(self, state: bytes) -> None:
        fired, *sums, count, mean = self._LAYOUT.unpack(state)
        private = vars(self._detector)
        private.update(zip(self._SUMS, sums, strict=True), _drift_detected=fired)
        vars(private["_x_mean"]).update(n=count, _mean=mean)


class _Kswin:
    _TWISTER = struct.Struct("<625I")
    """Python's Mersenne Twister: 624 words and a position; its spare Gaussian is never drawn."""
    _HEAD = struct.Struct("<?qd")

    def __init__(self, delta: float, seed: int) -> None:
        from river.drift import KSWIN

        alpha = expected_false_drifts(delta, 1.0) / _KSWIN_RATE
        self._detector = KSWIN(alpha=alpha, window_size=300, stat_size=100, seed=seed)

    def update(self, value: float) -> bool:
        self._detector.update(value)
        return bool(self._detector.drift_detected)

    def to_bytes(self) -> bytes:
        private = vars(self._detector)
        head = self._HEAD.pack(private["_drift_detected"], private["n"], float(private["p_value"]))
        twister = self._TWISTER.pack(*private["_rng"].getstate()[1])
        return head + twister + np.array(private["window"], "<f8").tobytes()

    def from_bytes(self, state: bytes) -> None:
        head, body = self._HEAD.size, self._HEAD.size + self._TWISTER.size
        fired, count, p_value = self._HEAD.unpack(state[:head])
        generator = random.Random()
        generator.setstate((3, self._TWISTER.unpack(state[head:body]), None))
        window = deque[float](np.frombuffer(state[body:], "<f8").tolist(), maxlen=self._detector.window_size)
        private: dict[str, Any] = vars(self._detector)
        private.update(_drift_detected=fired, n=count, p_value=p_value, _rng=generator, window=window)


class _Never:
    def __init__(self, delta: float, seed: int) -> None:
        del delta, seed

    def update(self, value: float) -> bool:
        del value
        return False

    def to_bytes(self) -> bytes:
        return b""

    def from_bytes(self, state: bytes) -> None:
        del state


_ENGINES: dict[Kind, Callable[[float, int], _Engine]] = {
    "adwin": _Adwin,
    "page_hinkley": _PageHinkley,
    "kswin": _Kswin,
    "none": _Never,
}


def _page_threshold(delta: float) -> float:
    """PageHinkley's threshold for the rate of false drifts that ADWIN has at ``delta``, by bisection."""
    wanted = 1.0 / expected_false_drifts(delta, 1.0)
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _run_length(middle) < wanted else (low, middle)
    return high


def _run_length(threshold: float) -> float:
    """Siegmund's mean number of U(0, 1) values until the two-sided cumulative sum raises a false alarm."""
    sigma = math.sqrt(1 / 12)
    drift, barrier = _SMALLEST_SHIFT / 2 / sigma, threshold / sigma + 1.166
    exponent = 2 * drift * barrier
    return (math.exp(exponent) - exponent - 1) / (2 * drift**2) / 2
