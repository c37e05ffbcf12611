"""The soak: two daemons at a steady rate on a real broker, one of them killed again and again, the other left alone.

``make soak`` (``python -m tests.soak --minutes 30 --rate 5000``) feeds single readings in real time: a plant of as many
assets as the rate asks for, each sensor once a second. At the end both daemons must have published the same ids with
the same bodies and folded the same windows; and of the one that was left alone neither memory nor descriptors may have
grown. Where the machine does not carry the rate the readings come later than they should, and the rate that was reached
is printed.

Memory: windows, drift detectors and collections of calibration scores fill in the first minutes. So the slope is a
least-squares line over the resident set size in the second half of the time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from kafka import KafkaProducer

from monitor.quantities import iso_time
from tests.broker import obtain
from tests.chaos import EXTRA, Launcher, Life, Pair, Plant
from tests.worlds import SECOND, START, batch_of, configuration_text, world

SENSORS, LENGTH, PARTITIONS = 5, 32, 4
PULL = 0.5
BROKEN_EVERY = 1009
MOST_GROWTH = 0.02
"""Of the resident set size, over the second half: the slope times its length."""
CATCH_UP_S = 600.0


# -- the feed -------------------------------------------------------------------------------------------------


class Feed(NamedTuple):
    """What to send."""

    bootstrap: str
    topic: str
    assets: int
    seconds: int
    seed: int


def normal(assets: int, seed: int) -> Iterator[np.ndarray]:
    """[assets, SENSORS] of one second after the other, without faults: first-order autoregressive around 10, 20, ..."""
    rng = np.random.default_rng(seed)
    levels = 10.0 * np.arange(1, SENSORS + 1)
    values = rng.normal(size=(assets, SENSORS))
    while True:
        yield values + levels
        values = PULL * values + rng.normal(size=(assets, SENSORS)) * np.sqrt(1 - PULL**2)


def faults(assets: int, second: int) -> np.ndarray:
    """[assets, SENSORS] to be added: every asset steps away for 20 s every 15 minutes, some of them at any time."""
    added, numbers = np.zeros((assets, SENSORS)), np.arange(assets)
    off = (second + 37 * numbers) % 900 < 20
    added[off, numbers[off] % SENSORS] = 9.0
    return added


def soaked() -> Plant:
    """What both watch; its bundle is trained here."""
    text = configuration_text(SENSORS, LENGTH, "{pca: {}, var: {}}", EXTRA).replace("block: 32", "block: 256")
    rows = np.stack(list(islice(normal(4, seed=0), 1500)))
    history = {f"plant/{n}": rows[:, n] for n in range(rows.shape[1])}
    return Plant(world(text, [batch_of(history)]), text, PARTITIONS, state=", interval: 2s")


def send(feed: Feed, sent: Any) -> None:
    """Send second after second, each when its time has come, or as soon as may be; ``sent`` counts records."""
    producer = KafkaProducer(bootstrap_servers=feed.bootstrap, linger_ms=20)
    begun, count = time.monotonic(), 0
    for second, values in enumerate(islice(normal(feed.assets, feed.seed), feed.seconds)):
        at = iso_time(START + second * SECOND)
        for asset, row in enumerate((values + faults(feed.assets, second)).tolist()):
            for sensor, value in enumerate(row):
                count += 1
                body = f'{{"asset":"plant/{asset}","ts":"{at}","sensor":"s{sensor}","value":{value!r}}}'
                raw = body[:-1] if count % BROKEN_EVERY == 0 else body
                producer.send(feed.topic, raw.encode(), b"plant/%d" % asset, partition=asset % PARTITIONS)
        sent.value = count
        time.sleep(max(0.0, begun + second + 1 - time.monotonic()))
        if time.monotonic() - begun > feed.seconds:
            break
    producer.flush()
    producer.close()


# -- what is looked at ----------------------------------------------------------------------------------------


class Look(NamedTuple):
    """A daemon at one moment.

    Attributes:
        at: seconds since the beginning.
        resident: bytes.
        descriptors: that are open.
    """

    at: float
    resident: int
    descriptors: int


def look(life: Life, at: float) -> Look | None:
    """None where it is over."""
    try:
        pages = int(Path(f"/proc/{life.pid}/statm").read_text().split()[1])
        return Look(at, pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{life.pid}/fd")))
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None


class Growth(NamedTuple):
    """Of one daemon over the second half of the looks, by least-squares lines.

    Attributes:
        resident: bytes, on average.
        a_minute: bytes by which these grow in a minute.
        share: growth over the whole half, as a share of them.
        descriptors: the fewest and the most that were open.
        opened: descriptors by which these grow over the whole half.
    """

    resident: float
    a_minute: float
    share: float
    descriptors: tuple[int, int]
    opened: float

    @property
    def flat(self) -> bool:
        """Whether nothing grows."""
        return self.share < MOST_GROWTH and self.opened < 1.0


def growth(looks: Sequence[Look]) -> Growth:
    """Of these looks, in order of time."""
    half = [one for one in looks if one.at >= looks[-1].at / 2]
    at, resident = np.array([one.at for one in half]), np.array([one.resident for one in half], float)
    descriptors = np.array([one.descriptors for one in half], float)
    span, mean = float(at[-1] - at[0]), float(resident.mean())
    slope, opening = float(np.polyfit(at, resident, 1)[0]), float(np.polyfit(at, descriptors, 1)[0])
    fewest, most = int(descriptors.min()), int(descriptors.max())
    return Growth(mean, 60 * slope, slope * span / mean, (fewest, most), opening * span)


# -- the soak -------------------------------------------------------------------------------------------------


class Soak:
    """One run.

    Args:
        pair: the daemons.
        kill_every: seconds.
    """

    def __init__(self, pair: Pair, kill_every: float) -> None:
        self._pair = pair
        self._kill_every = kill_every
        self._begun = time.monotonic()
        self.calm = pair.launcher.start(pair.whole.folder)
        self._disturbed = pair.start()
        self.looks: list[Look] = []
        self.peaks: list[Look] = []

    @property
    def at(self) -> float:
        return time.monotonic() - self._begun

    def watch(self, feeding: multiprocessing.process.BaseProcess, sent: Any) -> None:
        """Look every second, kill when it is time, and tell of it, while records come."""
        due = self._kill_every
        while feeding.is_alive():
            self._look()
            if self.at >= due:
                self._tell(sent.value)
                self._kill()
                due += self._kill_every
            time.sleep(1.0)

    def finish(self) -> None:
        """Until both have read everything; then they are stopped in order."""
        pair = self._pair
        ends, until = pair.ends(), time.monotonic() + CATCH_UP_S
        while any(pair.positions(place) != ends for place in (pair.whole, pair.disturbed)):
            self._look()
            assert time.monotonic() < until, (
                f"{pair.positions(pair.whole)}, {pair.positions(pair.disturbed)} of {ends}"
            )
            time.sleep(1.0)
        for life, place in ((self.calm, pair.whole), (self._disturbed, pair.disturbed)):
            assert life.end(signal.SIGTERM) == 0, place.log[-3000:]

    def _look(self) -> None:
        calm, disturbed = look(self.calm, self.at), look(self._disturbed, self.at)
        assert calm is not None, f"exit {self.calm.wait()}: {self._pair.whole.log[-3000:]}"
        assert disturbed is not None, f"exit {self._disturbed.wait()}: {self._pair.disturbed.log[-3000:]}"
        self.looks.append(calm)
        self._last = disturbed

    def _kill(self) -> None:
        assert self._disturbed.end(signal.SIGKILL) == -signal.SIGKILL
        self.peaks.append(self._last)
        self._pair.kills["on time"] += 1
        self._disturbed = self._pair.start()

    def _tell(self, sent: int) -> None:
        """A line for a person; the lag is what was sent and is not in a state file yet."""
        calm, places = self.looks[-1], (self._pair.whole, self._pair.disturbed)
        behind = [sent - sum(self._pair.positions(place).values()) for place in places]
        print(
            f"{self.at:6.0f} s  {sent:>11,} sent  lag {behind[0]:>7,} and {behind[1]:>7,}  "
            f"left alone: {calm.resident / 2**20:6.1f} MiB, {calm.descriptors} descriptors  "
            f"killed {self._pair.kills.total()} times, last at {self._last.resident / 2**20:6.1f} MiB",
            flush=True,
        )


def run(minutes: float, rate: int, kill_every: float, seed: int) -> int:
    """Do it all; returns the exit code."""
    assets = max(1, rate // SENSORS)
    print(
        f"soak: {minutes:g} minutes, {assets * SENSORS} records/s of {assets} assets, seed {seed}", flush=True
    )
    broker, launcher = obtain(), Launcher()
    context = multiprocessing.get_context("spawn")
    try:
        with tempfile.TemporaryDirectory(prefix="nuwatch-soak-") as folder:
            pair = Pair(broker, Path(folder), launcher, f"soak-{os.getpid()}", soaked())
            feed = Feed(broker.bootstrap, pair.sensors, assets, int(60 * minutes), seed)
            soak, sent = Soak(pair, kill_every), context.Value("q", 0)
            begun = time.monotonic()
            feeding = context.Process(target=send, args=(feed, sent), daemon=True)
            feeding.start()
            soak.watch(feeding, sent)
            took = time.monotonic() - begun
            assert feeding.exitcode == 0, f"the feed ended with {feeding.exitcode}"
            soak.finish()
            return told(pair, soak, sent.value / took, took)
    finally:
        launcher.close()
        broker.stop()


def told(pair: Pair, soak: Soak, rate: float, took: float) -> int:
    """Print what came of it; 0 where all of it holds."""
    figures, grown = pair.compare(), growth(soak.looks)
    print(f"{took:.0f} s at {rate:,.0f} records/s, {pair.kills.total()} kills: {dict(figures)}")
    print(
        f"left alone, second half: {grown.resident / 2**20:.1f} MiB, {grown.a_minute / 1024:+.1f} KiB a minute, "
        f"{grown.share:+.2%} in all; {grown.descriptors[0]} to {grown.descriptors[1]} descriptors"
    )
    peaks = [one.resident / 2**20 for one in soak.peaks] or [0.0]
    print(f"killed ones: {min(peaks):.1f} to {max(peaks):.1f} MiB at their ends")
    print("holds: same ids, same bodies, same windows; flat" if grown.flat else "FAILED: it grows")
    return 0 if grown.flat else 1


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="of feeding (default: %(default)g)")
    parser.add_argument("--rate", type=int, default=5000, help="records a second (default: %(default)s)")
    parser.add_argument("--kill-every", type=float, default=60.0, help="seconds (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=20261127, help="of the readings (default: %(default)s)")
    given = parser.parse_args(words)
    return run(given.minutes, given.rate, given.kill_every, given.seed)


if __name__ == "__main__":
    sys.exit(main())
