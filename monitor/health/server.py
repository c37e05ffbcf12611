"""The daemon's pages: /livez, /readyz and /metrics, by the standard library's HTTP server in threads of its own.

They read only. A reader that is slow or silent holds one thread for at most some seconds.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, ClassVar, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from monitor.errors import ConfigurationError
from monitor.health.vitals import Phase, Vitals
from monitor.settings import Http

_READ_S = 5.0
"""Longest wait for a request on an open connection."""
_MOST_REQUESTS = 16
"""Requests that are answered at once; more are turned away with 503."""


class Answer(NamedTuple):
    """What a page says."""

    status: int
    content_type: str
    body: bytes


class Pages:
    """The pages' contents, without a socket.

    Args:
        vitals: the daemon's state.
        registry: its metrics.
    """

    def __init__(self, vitals: Vitals, registry: CollectorRegistry) -> None:
        self._vitals = vitals
        self._registry = registry
        self._pages: dict[str, Callable[[], Answer]] = {
            "/livez": self._live,
            "/readyz": self._ready,
            "/metrics": self._metrics,
        }

    def get(self, path: str) -> Answer:
        """The page at a path, or 404."""
        page = self._pages.get(path.partition("?")[0])
        return _json(404, {"error": "not found", "pages": sorted(self._pages)}) if page is None else page()

    def _live(self) -> Answer:
        activity = self._vitals.activity
        live = not self._vitals.stuck
        body: dict[str, Any] = {"live": live, "phase": self._vitals.phase}
        if self._vitals.phase is not Phase.STARTING:
            body |= {"stage": activity.stage, "seconds_in_stage": round(activity.seconds_in_stage, 3)}
        return _json(200 if live else 503, body)

    def _ready(self) -> Answer:
        reasons = self._vitals.not_ready()
        told = [{"code": reason.code, "detail": reason.detail} for reason in reasons]
        return _json(503 if reasons else 200, {"ready": not reasons, "reasons": told})

    def _metrics(self) -> Answer:
        return Answer(200, CONTENT_TYPE_LATEST, generate_latest(self._registry))


def _json(status: int, body: dict[str, Any]) -> Answer:
    return Answer(status, "application/json", json.dumps(body).encode() + b"\n")


def check_host(settings: Http) -> None:
    """Refuse an address that other machines can reach, unless it was asked for.

    Raises:
        ConfigurationError: it was not.
    """
    if settings.allow_remote or is_loopback(settings.host):
        return
    raise ConfigurationError(
        f"health.http.host: got {settings.host!r}, which other machines can reach, expected a loopback address; the "
        "pages have no login and no encryption; hint: set health.http.allow_remote: true behind a firewall or a proxy"
    )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's alone, without asking a name server."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], pages: Pages) -> None:
        self.pages = pages
        self._free = threading.BoundedSemaphore(_MOST_REQUESTS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or turn the request away: a flood must not become a thread each."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is nobody's error."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # type: ignore[assignment] # the base class knows less of its server
    timeout: ClassVar[float] = _READ_S  # type: ignore[misc] # of a class variable without an annotation
    server_version = "nuwatch"
    sys_version = ""

    def do_GET(self) -> None:
        """Any page."""
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        """Any page's status."""
        self._send(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Probes come every few seconds: not a line each."""

    def _send(self, *, with_body: bool) -> None:
        answer = self.server.pages.get(self.path)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)


class PageServer:
    """Serves pages in a thread until closed.

    Args:
        settings: where.
        pages: what.

    Raises:
        ConfigurationError: the address can be reached from outside and that was not asked for.
        OSError: the address cannot be used, for example because the port is taken.
    """

    def __init__(self, settings: Http, pages: Pages) -> None:
        check_host(settings)
        self._server = _Server((settings.host, settings.port), pages)
        self._thread = threading.Thread(target=self._serve, name="nuwatch-pages", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """`host:port` that is listened at."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def close(self) -> None:
        """Stop serving. Idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)
