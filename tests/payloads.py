"""The corpus of bad input: one place, for codec tests, whole-path tests on a broker, and the fuzzer (`tests/fuzz.py`).

`PAYLOADS` are records that must be refused, each with its reason. `ODDITIES` look bad and are good: each must be taken,
with this value. What is wrong only in its place in the stream (late, twice, unlike before) is in
`tests/disturbances.py`; what is wrong in how Kafka packs it is in `tests/test_kafka_failures.py`.

The records fit `LAYOUT`: assets ``poly2/*`` with sensors temperature (Cel), pressure (bar{gauge}) and
reaction_time (s). `GOOD` is a record that must be scored as if none of the others had been.
"""

from __future__ import annotations

import gzip
import struct
from typing import NamedTuple

import pyarrow as pa

from connectors.records import ClassLayout, Layout, Reason, SensorLayout, TimeLayout

MAX_BYTES = 1_048_576
LAYOUT = Layout(
    classes=(
        ClassLayout(
            name="reactor",
            assets=("poly2/*",),
            sensors=(
                SensorLayout("temperature", "temperature", "Cel"),
                SensorLayout("pressure", "pressure", "bar{gauge}"),
                SensorLayout("reaction_time", "reaction_time", "s"),
            ),
        ),
    ),
    time=TimeLayout(earliest=946_684_800_000_000_000, latest=4_102_444_800_000_000_000),  # 2000 to 2100
    max_bytes=MAX_BYTES,
)

GOOD = (
    b'{"asset":"poly2/R-101","ts":"2026-11-22T01:13:56.123456Z",'
    b'"values":{"temperature":171.2,"pressure":5.8,"reaction_time":1810.0}}'
)


class Payload(NamedTuple):
    """One bad record: a name for test output, its value, and the reason it must be rejected for."""

    name: str
    value: bytes | None
    reason: Reason


def _frame(
    asset: str = '"poly2/R-101"', ts: str = "1795310036123", rest: str = '"values":{"temperature":1}'
) -> bytes:
    return f'{{"asset":{asset},"ts":{ts},{rest}}}'.encode()


def ipc(columns: dict[str, pa.Array], compression: str | None = None) -> bytes:
    """One Arrow IPC stream message."""
    batch = pa.record_batch(columns)
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        out, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)
    ) as writer:
        writer.write_batch(batch)
    return out.getvalue().to_pybytes()


_ARROW = {
    "asset": pa.array(["poly2/R-101"] * 3),
    "ts": pa.array([1795310036123] * 3, pa.int64()),
    "temperature": pa.array([1.0, 2.0, 3.0]),
}
_DEEP = "[" * 100_000 + "]" * 100_000

PAYLOADS = (
    Payload("tombstone", None, Reason.EMPTY),
    Payload("empty value", b"", Reason.EMPTY),
    Payload("columns without rows", _frame(ts="[]", rest='"values":{"temperature":[]}'), Reason.EMPTY),
    Payload("arrow without rows", ipc({name: column[:0] for name, column in _ARROW.items()}), Reason.EMPTY),
    Payload("20 MB of text", b'{"asset":"' + b"a" * 20_000_000 + b'"}', Reason.TOO_LARGE),
    Payload("one byte over the limit", GOOD.ljust(MAX_BYTES + 1), Reason.TOO_LARGE),
    Payload(
        "too many rows in a small record",
        _frame(ts="[" + ",".join(["1"] * 70_000) + "]", rest='"values":{}'),
        Reason.TOO_LARGE,
    ),
    Payload("truncated", GOOD[:70], Reason.MALFORMED),
    Payload("truncated by one byte", GOOD[:-1], Reason.MALFORMED),
    Payload("trailing characters", GOOD + b"}", Reason.MALFORMED),
    Payload("two records in one", GOOD + GOOD, Reason.MALFORMED),
    Payload("only spaces", b"   ", Reason.MALFORMED),
    Payload("not json", b"temperature=171.2", Reason.MALFORMED),
    Payload("xml", b"<frame/>", Reason.MALFORMED),
    Payload("zero bytes", b"\x00" * 100, Reason.MALFORMED),
    Payload("avro with a schema id", b"\x00\x00\x00\x00\x07abc", Reason.MALFORMED),
    Payload("byte order mark", b"\xef\xbb\xbf" + GOOD, Reason.MALFORMED),
    Payload("utf-16", GOOD.decode().encode("utf-16-le"), Reason.MALFORMED),
    Payload("not utf-8", _frame().replace(b"R-101", b"R-\xff\xfe"), Reason.MALFORMED),
    Payload("lone surrogate", _frame(asset='"\\ud800"'), Reason.MALFORMED),
    Payload("a record in gzip", gzip.compress(GOOD, mtime=0), Reason.MALFORMED),
    Payload("a gzip bomb", gzip.compress(bytes(50_000_000), mtime=0), Reason.MALFORMED),
    Payload("decimal comma", _frame(rest='"values":{"temperature":171,2}'), Reason.MALFORMED),
    Payload("leading zeros", _frame(rest='"values":{"temperature":0171}'), Reason.MALFORMED),
    Payload("hexadecimal", _frame(rest='"values":{"temperature":0xAB}'), Reason.MALFORMED),
    Payload("a plus sign", _frame(rest='"values":{"temperature":+1}'), Reason.MALFORMED),
    Payload("no digit before the point", _frame(rest='"values":{"temperature":.5}'), Reason.MALFORMED),
    Payload("NaN", _frame(rest='"values":{"temperature":NaN}'), Reason.MALFORMED),
    Payload("Infinity", _frame(rest='"values":{"temperature":-Infinity}'), Reason.MALFORMED),
    Payload("single quotes", b"{'asset':'poly2/R-101'}", Reason.MALFORMED),
    Payload("deep nesting", _frame(rest='"values":{},"x":' + _DEEP), Reason.MALFORMED),
    Payload("deep nesting in batch", _frame(rest='"values":{},"batch":' + _DEEP), Reason.MALFORMED),
    Payload("both forms", _frame(rest='"values":{},"sensor":"temperature","value":1'), Reason.MALFORMED),
    Payload("unit on a frame", _frame(rest='"values":{"temperature":1},"unit":"K"'), Reason.MALFORMED),
    Payload("null", b"null", Reason.WRONG_TYPE),
    Payload("a number", b"5", Reason.WRONG_TYPE),
    Payload("a list", b"[" + GOOD + b"]", Reason.WRONG_TYPE),
    Payload("asset is a number", _frame(asset="101"), Reason.WRONG_TYPE),
    Payload("value in quotes", _frame(rest='"values":{"temperature":"171.2"}'), Reason.WRONG_TYPE),
    Payload(
        "value in quotes with a comma", _frame(rest='"values":{"temperature":"171,2"}'), Reason.WRONG_TYPE
    ),
    Payload("the text NaN", _frame(rest='"values":{"temperature":"NaN"}'), Reason.WRONG_TYPE),
    Payload("an empty text", _frame(rest='"values":{"temperature":""}'), Reason.WRONG_TYPE),
    Payload("the second of two keys is text", _frame(rest='"values":{},"values":"x"'), Reason.WRONG_TYPE),
    Payload("value is true", _frame(rest='"values":{"temperature":true}'), Reason.WRONG_TYPE),
    Payload("value is an object", _frame(rest='"values":{"temperature":{"v":1}}'), Reason.WRONG_TYPE),
    Payload("value is a list", _frame(rest='"values":{"temperature":[1]}'), Reason.WRONG_TYPE),
    Payload("values is a list", _frame(rest='"values":[1,2,3]'), Reason.WRONG_TYPE),
    Payload("1e999", _frame(rest='"values":{"temperature":1e999}'), Reason.WRONG_TYPE),
    Payload("10,000 digits", _frame(rest=f'"values":{{"temperature":{"9" * 10_000}}}'), Reason.WRONG_TYPE),
    Payload("batch is text", _frame(rest='"values":{},"batch":"B-1"'), Reason.WRONG_TYPE),
    Payload("batch id is a list", _frame(rest='"values":{},"batch":{"batch_id":[]}'), Reason.WRONG_TYPE),
    Payload("units is text", _frame(rest='"values":{"temperature":1},"units":"K"'), Reason.WRONG_TYPE),
    Payload("asset per row of a frame", _frame(asset='["poly2/R-101"]'), Reason.WRONG_TYPE),
    Payload(
        "columns of unequal length",
        _frame(ts="[1795310036123,1795310036124]", rest='"values":{"temperature":[1]}'),
        Reason.WRONG_TYPE,
    ),
    Payload(
        "column is a number",
        _frame(ts="[1795310036123]", rest='"values":{"temperature":1}'),
        Reason.WRONG_TYPE,
    ),
    Payload("no asset", b'{"ts":1,"values":{}}', Reason.MISSING_FIELD),
    Payload("no ts", b'{"asset":"poly2/R-101","values":{}}', Reason.MISSING_FIELD),
    Payload("neither values nor sensor", _frame(rest='"x":1'), Reason.MISSING_FIELD),
    Payload("sensor without value", _frame(rest='"sensor":"temperature"'), Reason.MISSING_FIELD),
    Payload("unknown asset", _frame(asset='"poly3/R-101"'), Reason.UNKNOWN_ASSET),
    Payload("asset in other case", _frame(asset='"POLY2/R-101"'), Reason.UNKNOWN_ASSET),
    Payload("empty asset", _frame(asset='""'), Reason.UNKNOWN_ASSET),
    Payload("endless asset", _frame(asset='"poly2/' + "x" * 100_000 + '"'), Reason.UNKNOWN_ASSET),
    Payload("control characters in the asset", _frame(asset='"\\u0000\\u001b[31m"'), Reason.UNKNOWN_ASSET),
    Payload("NUL in an asset that fits", _frame(asset='"poly2/R-\\u0000101"'), Reason.UNKNOWN_ASSET),
    Payload(
        "right-to-left in an asset that fits", _frame(asset='"poly2/\\u202e101-R"'), Reason.UNKNOWN_ASSET
    ),
    Payload("10 kB of asset that fits", _frame(asset='"poly2/' + "x" * 10_000 + '"'), Reason.UNKNOWN_ASSET),
    Payload(
        "the second of two assets is unknown", _frame(rest='"values":{},"asset":"x"'), Reason.UNKNOWN_ASSET
    ),
    Payload("10 kB of sensor", _frame(rest=f'"values":{{"{"x" * 10_000}":1}}'), Reason.UNKNOWN_SENSOR),
    Payload("NUL in a sensor", _frame(rest='"values":{"temperature\\u0000":1}'), Reason.UNKNOWN_SENSOR),
    Payload(
        "right-to-left in a sensor", _frame(rest='"values":{"\\u202etemperature":1}'), Reason.UNKNOWN_SENSOR
    ),
    Payload("sensor in other case", _frame(rest='"values":{"Temperature":1}'), Reason.UNKNOWN_SENSOR),
    Payload("unknown sensor", _frame(rest='"values":{"temperature":1,"humidity":2}'), Reason.UNKNOWN_SENSOR),
    Payload("unknown single sensor", _frame(rest='"sensor":"humidity","value":2'), Reason.UNKNOWN_SENSOR),
    Payload(
        "unknown sensor in quality",
        _frame(rest='"values":{},"quality":{"humidity":"BAD"}'),
        Reason.UNKNOWN_SENSOR,
    ),
    Payload(
        "wrong quantity",
        _frame(rest='"values":{"temperature":1},"units":{"temperature":"bar"}'),
        Reason.UNIT_MISMATCH,
    ),
    Payload(
        "absolute for gauge pressure",
        _frame(rest='"sensor":"pressure","value":1,"unit":"bar{absolute}"'),
        Reason.UNIT_MISMATCH,
    ),
    Payload(
        "pressure that does not say",
        _frame(rest='"sensor":"pressure","value":1,"unit":"bar"'),
        Reason.UNIT_MISMATCH,
    ),
    Payload(
        "unit that is no code",
        _frame(rest='"sensor":"temperature","value":1,"unit":"degC"'),
        Reason.UNIT_MISMATCH,
    ),
    Payload(
        "quality word",
        _frame(rest='"values":{"temperature":1},"quality":{"temperature":"FINE"}'),
        Reason.BAD_QUALITY_WORD,
    ),
    Payload(
        "quality of OPC Classic",
        _frame(rest='"sensor":"temperature","value":1,"quality":192'),
        Reason.BAD_QUALITY_WORD,
    ),
    Payload(
        "quality below zero",
        _frame(rest='"sensor":"temperature","value":1,"quality":-1'),
        Reason.BAD_QUALITY_WORD,
    ),
    Payload("time without an offset", _frame(ts='"2026-11-22T01:13:56"'), Reason.BAD_TIME),
    Payload("time is a float", _frame(ts="1795310036.123"), Reason.BAD_TIME),
    Payload("time is a whole float", _frame(ts="1795310036123.0"), Reason.BAD_TIME),
    Payload("time is true", _frame(ts="true"), Reason.BAD_TIME),
    Payload("time is null", _frame(ts="null"), Reason.BAD_TIME),
    Payload("time is an empty text", _frame(ts='""'), Reason.BAD_TIME),
    Payload("digits in quotes", _frame(ts='"1795310036123"'), Reason.BAD_TIME),
    Payload("30 February", _frame(ts='"2026-02-30T00:00:00Z"'), Reason.BAD_TIME),
    Payload("29 February of a common year", _frame(ts='"2026-02-29T00:00:00Z"'), Reason.BAD_TIME),
    Payload("leap second", _frame(ts='"2026-12-31T23:59:60Z"'), Reason.BAD_TIME),
    Payload("24 o'clock", _frame(ts='"2026-12-31T24:00:00Z"'), Reason.BAD_TIME),
    Payload("ten digits of fraction", _frame(ts='"2026-12-31T00:00:00.0123456789Z"'), Reason.BAD_TIME),
    Payload(
        "digits of another script", _frame(ts='"\u0662\u0660\u0662\u0666-11-22T01:13:56Z"'), Reason.BAD_TIME
    ),
    Payload("time of 10,000 digits", _frame(ts="9" * 10_000), Reason.BAD_TIME),
    Payload(
        "phase started never", _frame(rest='"values":{},"batch":{"phase_started":"now"}'), Reason.BAD_TIME
    ),
    Payload("time of 30 digits", _frame(ts="9" * 30), Reason.TIME_RANGE),
    Payload("year 2200", _frame(ts='"2200-01-01T00:00:00Z"'), Reason.TIME_RANGE),
    Payload("year 9999", _frame(ts='"9999-12-31T23:59:59Z"'), Reason.TIME_RANGE),
    Payload("1970", _frame(ts="0"), Reason.TIME_RANGE),
    Payload("seconds for milliseconds", _frame(ts="1795310036"), Reason.TIME_RANGE),
    Payload("microseconds for milliseconds", _frame(ts="1795310036123000"), Reason.TIME_RANGE),
    Payload("nanoseconds for milliseconds", _frame(ts="1795310036123000000"), Reason.TIME_RANGE),
    Payload("least integer", _frame(ts=str(-(2**63))), Reason.TIME_RANGE),
    Payload("arrow: only the magic", b"\xff\xff\xff\xff", Reason.MALFORMED),
    Payload("arrow: a length of 2 GB", b"\xff\xff\xff\xff" + struct.pack("<i", 2**31 - 1), Reason.MALFORMED),
    Payload("arrow: truncated", ipc(_ARROW)[:-150], Reason.MALFORMED),
    Payload("arrow: noise after the magic", b"\xff\xff\xff\xff" + bytes(range(256)) * 4, Reason.MALFORMED),
    Payload("arrow: compressed", ipc(_ARROW, "zstd"), Reason.MALFORMED),
    Payload("arrow: no ts", ipc({"asset": _ARROW["asset"]}), Reason.MISSING_FIELD),
    Payload(
        "arrow: text for numbers", ipc(_ARROW | {"temperature": pa.array(["1", "2", "3"])}), Reason.WRONG_TYPE
    ),
    Payload("arrow: times are floats", ipc(_ARROW | {"ts": pa.array([1.0, 2.0, 3.0])}), Reason.BAD_TIME),
    Payload(
        "arrow: wall clock",
        ipc(_ARROW | {"ts": pa.array([1795310036123] * 3, pa.timestamp("ms"))}),
        Reason.BAD_TIME,
    ),
    Payload(
        "arrow: null asset",
        ipc(_ARROW | {"asset": pa.array([None, None, None], pa.string())}),
        Reason.MISSING_FIELD,
    ),
    Payload("arrow: unknown asset", ipc(_ARROW | {"asset": pa.array(["x", "y", "z"])}), Reason.UNKNOWN_ASSET),
    Payload(
        "arrow: unknown sensor", ipc(_ARROW | {"humidity": pa.array([1.0, 2.0, 3.0])}), Reason.UNKNOWN_SENSOR
    ),
    Payload(
        "arrow: quality word",
        ipc(_ARROW | {"temperature__quality": pa.array(["GOOD", "FINE", "BAD"])}),
        Reason.BAD_QUALITY_WORD,
    ),
)


class Oddity(NamedTuple):
    """One record that must be taken: a name, its value, and the temperature that it gives; None is no reading."""

    name: str
    value: bytes
    temperature: float | None


ODDITIES = (
    Oddity("minus zero", _frame(rest='"values":{"temperature":-0.0}'), -0.0),
    Oddity("null", _frame(rest='"values":{"temperature":null}'), None),
    Oddity("no values", _frame(rest='"values":{}'), None),
    Oddity("an integer", _frame(rest='"values":{"temperature":171}'), 171.0),
    Oddity("an exponent", _frame(rest='"values":{"temperature":1.712e2}'), 171.2),
    Oddity(
        "the largest number",
        _frame(rest='"values":{"temperature":1.7976931348623157e308}'),
        1.7976931348623157e308,
    ),
    Oddity("the smallest number", _frame(rest='"values":{"temperature":5e-324}'), 5e-324),
    Oddity("too small a number", _frame(rest='"values":{"temperature":1e-999}'), 0.0),
    Oddity("1,000 digits behind the point", _frame(rest=f'"values":{{"temperature":1.{"3" * 1000}}}'), 4 / 3),
    Oddity("a key twice", _frame(rest='"values":{"temperature":1,"temperature":2}'), 2.0),
    Oddity("values twice", _frame(rest='"values":{"temperature":1},"values":{"temperature":2}'), 2.0),
    Oddity(
        "extra fields", _frame(rest='"values":{"temperature":1},"seq":7,"site":{"a":[1,{"b":null}]}'), 1.0
    ),
    Oddity("escapes", _frame(rest='"values":{"\\u0074emperature":1}'), 1.0),
    Oddity(
        "spaces and line ends", b" \r\n\t" + _frame(rest='"values" : { "temperature" : 1 }') + b"\n ", 1.0
    ),
    Oddity(
        "null for what may be left out",
        _frame(rest='"values":{"temperature":1},"quality":null,"batch":null'),
        1.0,
    ),
)
