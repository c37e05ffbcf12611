"""A record that is too large for its topic, made smaller in fixed steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from connectors.records import Channel, OutRecord, headers_of
from monitor.alerting.canonical import canonical_json
from monitor.alerting.dead_letters import SIZE_HEADER

_SHORT_TEXT = 120


def size_of(record: OutRecord) -> int:
    """Bytes of key, value and headers; the protocol's own overhead is not counted."""
    headers = sum(len(name.encode()) + len(value) for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def shorten(record: OutRecord, max_bytes: int) -> OutRecord:
    """The record itself if it fits, else its longest short form that does, with the same id and key.

    Alerts and thresholds lose, one after the other, the smaller contributions, the scores per scorer (the
    scales), all contributions, and the ends of long texts; ``truncated`` is set. Of a dead letter the value
    is cut, its original size stands in a header, and the original headers go before ours do. The same record
    has the same short form.

    Args:
        record: what was to be published.
        max_bytes: largest allowed `size_of`.

    Raises:
        ValueError: even the shortest form does not fit.
    """
    if size_of(record) <= max_bytes:
        return record
    if record.channel is Channel.DEAD_LETTER:
        return _cut_dead_letter(record, max_bytes)
    event = json.loads(record.value or b"{}")
    data: dict[str, Any] = event["data"]
    for step in _STEPS:
        step(data)
        data["truncated"] = True
        shorter = record._replace(value=canonical_json(event))
        if size_of(shorter) <= max_bytes:
            return shorter
    raise _too_large(record, max_bytes)


def shorter(record: OutRecord) -> OutRecord | None:
    """The next shorter form of a record that its topic refused: an event's next step, or half of a dead letter.

    None where there is none. A topic with a given limit gets the same form of the same record, whoever sends it.
    """
    size = size_of(record)
    try:
        return shorten(record, size // 2 if record.channel is Channel.DEAD_LETTER else size - 1)
    except ValueError:
        return None


def _fewer_contributions(data: dict[str, Any]) -> None:
    for name in ("contributions", "first_moved"):
        if name in data:
            data[name] = data[name][:3]


def _no_scores_per_scorer(data: dict[str, Any]) -> None:
    if data.get("score"):
        data["score"]["per_scorer"] = {}
    if "scales" in data:
        data["scales"] = {}


def _no_contributions(data: dict[str, Any]) -> None:
    if "contributions" in data:
        data["contributions"] = []
    data.pop("first_moved", None)


def _short_texts(data: dict[str, Any]) -> None:
    for name, member in data.items():
        if isinstance(member, dict):
            _short_texts(member)
        elif isinstance(member, str) and len(member) > _SHORT_TEXT:
            data[name] = member[: _SHORT_TEXT - 1] + "…"


_STEPS: tuple[Callable[[dict[str, Any]], None], ...] = (
    _fewer_contributions,
    _no_scores_per_scorer,
    _no_contributions,
    _short_texts,
)


def _cut_dead_letter(record: OutRecord, max_bytes: int) -> OutRecord:
    value = record.value or b""
    ours = tuple(header for header in record.headers if header[0].startswith(("x-error-", "nuwatch-")))
    size = headers_of([(SIZE_HEADER, str(len(value)))])
    for headers in (record.headers, ours):
        empty = record._replace(value=b"", headers=(*headers, *size))
        room = max_bytes - size_of(empty)
        if room >= 0:
            return empty._replace(value=value[:room])
    raise _too_large(record, max_bytes)


def _too_large(record: OutRecord, max_bytes: int) -> ValueError:
    return ValueError(
        f"{record.channel} record {record.id}: its shortest form exceeds the {max_bytes} bytes allowed; "
        "hint: raise the topic's message size"
    )
