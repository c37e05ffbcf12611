"""Decode: raw records of one poll to columnar batches, in every form that the codec takes."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa

from benchmarks.measure import Contestant, Figure, Scale, race
from benchmarks.plant import configuration, frames, normal
from connectors.codec import Codec
from connectors.records import Layout, RawRecord
from monitor.configuration import parse
from monitor.connect import layout_of

MANY = 100
"""Rows of a many-row record."""


class _Frame(msgspec.Struct, gc=False):
    asset: str
    ts: int | str
    values: dict[str, float]


class _Columns(msgspec.Struct, gc=False):
    asset: list[str]
    ts: list[int]
    values: dict[str, list[float]]


def run(scale: Scale) -> list[Figure]:
    """Rows a second of the codec, of the standard library and of the bare parsers."""
    from pathlib import Path

    layout = layout_of(parse(configuration(scale), Path("plant.yaml")).settings)
    records = frames(normal(scale, scale.assets, scale.rows), 0, 0)
    rows = len(records)
    each = f"{rows} rows x {scale.sensors} sensors"
    iso, single = _iso(records), _single(records)
    columns, arrow = _columns(records), _arrow(records)
    return [
        *race(
            f"frames, {each}",
            [
                _ours(layout, records),
                Contestant("stdlib json to the same arrays", lambda _: _stdlib(records)),
                Contestant("msgspec alone, typed objects, no arrays", lambda _: _parse(records, _Frame)),
            ],
            rows,
            "rows/s",
            scale.rounds,
        ),
        *race(
            f"frames, ISO 8601 times, {each}",
            [
                _ours(layout, iso),
                Contestant("msgspec alone, typed objects, no arrays", lambda _: _parse(iso, _Frame)),
            ],
            rows,
            "rows/s",
            scale.rounds,
        ),
        *race(
            f"single readings, {len(single)}",
            [_ours(layout, single)],
            len(single),
            "readings/s",
            scale.rounds,
        ),
        *race(
            f"columnar JSON, {MANY} rows a record, {each}",
            [
                _ours(layout, columns),
                Contestant("stdlib json to the same arrays", lambda _: _stdlib_columns(columns)),
                Contestant("msgspec alone, typed objects, no arrays", lambda _: _parse(columns, _Columns)),
            ],
            rows,
            "rows/s",
            scale.rounds,
        ),
        *race(
            f"Arrow IPC, {MANY} rows a record, {each}",
            [_ours(layout, arrow), Contestant("pyarrow alone, tables, no checks", lambda _: _read(arrow))],
            rows,
            "rows/s",
            scale.rounds,
        ),
        *race(
            f"Arrow IPC, one record, {each}",
            [
                _ours(layout, whole := _arrow(records, rows)),
                Contestant("pyarrow alone, tables, no checks", lambda _: _read(whole)),
            ],
            rows,
            "rows/s",
            scale.rounds,
        ),
    ]


def _ours(layout: Layout, records: Sequence[RawRecord]) -> Contestant:
    codec = Codec(layout)
    return Contestant("nuwatch codec", lambda _: codec.decode(records))


def _stdlib(records: Sequence[RawRecord]) -> tuple[object, ...]:
    """What a careful first version does: parse, look the asset up, collect, one array at the end."""
    assets: dict[str, int] = {}
    index, time, values = [], [], []
    for record in records:
        message = json.loads(record.value or b"")
        index.append(assets.setdefault(message["asset"], len(assets)))
        time.append(message["ts"])
        values.append(list(message["values"].values()))
    return np.array(index, np.int32), np.array(time, np.int64) * 10**6, np.array(values, np.float64)


def _stdlib_columns(records: Sequence[RawRecord]) -> tuple[object, ...]:
    assets: dict[str, int] = {}
    index, time, values = [], [], []
    for record in records:
        message = json.loads(record.value or b"")
        index += [assets.setdefault(asset, len(assets)) for asset in message["asset"]]
        time += message["ts"]
        values.append(np.array(list(message["values"].values())).T)
    return np.array(index, np.int32), np.array(time, np.int64) * 10**6, np.concatenate(values)


def _parse(records: Sequence[RawRecord], kind: type[msgspec.Struct]) -> list[msgspec.Struct]:
    decode = msgspec.json.Decoder(kind).decode
    return [decode(record.value or b"") for record in records]


def _read(records: Sequence[RawRecord]) -> list[pa.Table]:
    return [pa.ipc.open_stream(record.value).read_all() for record in records]


def _iso(records: Sequence[RawRecord]) -> list[RawRecord]:
    def changed(record: RawRecord) -> RawRecord:
        message = msgspec.json.decode(record.value or b"")
        message["ts"] = str(np.datetime64(message["ts"], "ms")) + "Z"
        return record._replace(value=msgspec.json.encode(message))

    return [changed(record) for record in records]


def _single(records: Sequence[RawRecord]) -> list[RawRecord]:
    singles: list[RawRecord] = []
    for record in records:
        message = msgspec.json.decode(record.value or b"")
        sensor, value = next(iter(message["values"].items()))
        singles.append(
            record._replace(
                value=msgspec.json.encode(
                    {"asset": message["asset"], "ts": message["ts"], "sensor": sensor, "value": value}
                )
            )
        )
    return singles


def _columns(records: Sequence[RawRecord]) -> list[RawRecord]:
    many = [_table(records[low : low + MANY]) for low in range(0, len(records), MANY)]
    return [RawRecord(0, number, None, msgspec.json.encode(table)) for number, table in enumerate(many)]


def _arrow(records: Sequence[RawRecord], rows: int = MANY) -> list[RawRecord]:
    return [
        RawRecord(0, low, None, _ipc(_table(records[low : low + rows])))
        for low in range(0, len(records), rows)
    ]


def _table(records: Sequence[RawRecord]) -> dict[str, object]:
    messages = [msgspec.json.decode(record.value or b"") for record in records]
    tags = messages[0]["values"]
    return {
        "asset": [message["asset"] for message in messages],
        "ts": [message["ts"] for message in messages],
        "values": {tag: [message["values"][tag] for message in messages] for tag in tags},
    }


def _ipc(table: dict[str, object]) -> bytes:
    values = table.pop("values")
    assert isinstance(values, dict)
    batch = pa.record_batch(
        {"asset": pa.array(table["asset"]).dictionary_encode(), "ts": table["ts"], **values}
    )
    out = io.BytesIO()
    with pa.ipc.new_stream(out, batch.schema) as writer:
        writer.write_batch(batch)
    return out.getvalue()
