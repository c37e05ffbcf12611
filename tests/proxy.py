"""A TCP proxy on loopback that does to a connection what networks do: waits, resets, swallows, trickles."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType

_CHUNK = 16_384
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: a close is a reset."""


@dataclass(frozen=True)
class Weather:
    """What happens to every piece of data that passes.

    Attributes:
        delay_s: it arrives so much later; pieces that follow wait behind it.
        reset_share: the connection is reset instead, with this probability.
        swallow: nothing arrives, and nobody is told; what was sent meanwhile arrives when the weather changes, as TCP's
            retransmissions would have it.
        bytes_per_s: no faster than this; None: as fast as it goes.
    """

    delay_s: float = 0.0
    reset_share: float = 0.0
    swallow: bool = False
    bytes_per_s: int | None = None


CALM = Weather()


class Proxy:
    """Passes connections at a port on to another one; `weather` may be changed at any time.

    Args:
        port: listened at, on loopback.
        target: where connections are passed on to, on loopback.
        seed: of the resets.
    """

    def __init__(self, port: int, target: int, seed: int = 0) -> None:
        self.weather = CALM
        self.resets = 0
        self._target = target
        self._chance = random.Random(seed)
        self._open: set[socket.socket] = set()
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.2)
        self._threads = [self._started(self._accept)]

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:  # nobody listens: the broker is away
                near.close()
                continue
            for one in (near, far):
                one.settimeout(0.1)
            ends = threading.Semaphore(2)
            self._threads += [
                self._started(self._pass_on, near, far, ends),
                self._started(self._pass_on, far, near, ends),
            ]

    def _pass_on(self, source: socket.socket, sink: socket.socket, ends: threading.Semaphore) -> None:
        """One direction, until either side closes; the second direction to end closes both."""
        try:
            while not self._closing.is_set():
                data = self._received(source)
                if data is None:
                    continue
                if not data or not self._delivered(data, sink):
                    break
        except OSError:
            pass
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        ends.acquire()
        if not ends.acquire(blocking=False):
            source.close()
            sink.close()
        else:
            ends.release()

    @staticmethod
    def _received(source: socket.socket) -> bytes | None:
        """What has come; b'' at the end, None where nothing has come yet."""
        try:
            return source.recv(_CHUNK)
        except TimeoutError:
            return None

    def _delivered(self, data: bytes, sink: socket.socket) -> bool:
        """Send it on as the weather allows; False when the connection was reset."""
        while self.weather.swallow and not self._closing.is_set():
            time.sleep(0.02)
        weather = self.weather
        if weather.reset_share and self._chance.random() < weather.reset_share:
            self.resets += 1
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return False
        self._sleep(weather.delay_s)
        while data:
            rate = self.weather.bytes_per_s
            piece = data if rate is None else data[: max(1, rate // 10)]
            _send(sink, piece)
            data = data[len(piece) :]
            if rate is not None:
                self._sleep(len(piece) / rate)
        return True

    def _sleep(self, seconds: float) -> None:
        if seconds:
            self._closing.wait(seconds)

    @staticmethod
    def _started(work: object, *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        thread.start()
        return thread


def _send(sink: socket.socket, data: bytes) -> None:
    """All of it, however slowly the other side takes it."""
    while data:
        try:
            data = data[sink.send(data) :]
        except TimeoutError:
            continue
