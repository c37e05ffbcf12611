"""The published schemas: as the types say, and fit for the records that are really written and read."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from connectors import codec
from connectors.codec import Codec
from connectors.kafka.settings import SinkTopics
from connectors.records import ClassLayout, Layout, OutRecord, RawRecord, Reason, SensorLayout
from monitor import input_data, schemas
from monitor.alerting.alerts import Facts, Fault, Origin, Threshold, build_alert, cloudevent, threshold_event
from monitor.alerting.dead_letters import dead_letter
from monitor.alerting.incidents import EventName, Kind, Transition
from monitor.alerting.short_form import shorten, size_of
from monitor.quantities import Duration
from monitor.schemas import asyncapi, attribute_texts, documents, render, settings_schema
from monitor.thresholds.adaptation_events import ThresholdVersion
from tests.schema_checker import resolve, violations
from tests.test_alerts import ASSET, DESIGN_EXAMPLE, FACTS, SOURCE, VERSION

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = documents()
ALERT, THRESHOLD, DEAD_LETTER, INPUT = (
    DOCUMENTS[f"docs/schemas/{name}.v1.json"] for name in ("alert", "threshold", "dead-letter", "input")
)
ORIGIN = Origin("sensors", 3, 2**40, True, "0.1.0")

FRAME = {
    "asset": "poly2/R-101",
    "ts": "2026-11-22T01:13:56.123456Z",
    "values": {"temperature": 171.2, "pressure": 5.8, "reaction_time": 1810.0},
    "quality": {"pressure": "UNCERTAIN"},
    "batch": {"batch_id": "B-0712", "phase": "REACT"},
}
READING = {
    "asset": "poly2/R-101",
    "ts": 1795310036123,
    "sensor": "temperature",
    "value": 171.2,
    "quality": "GOOD",
    "seq": 123456,
}
COLUMNS = {
    "asset": ["poly2/R-101", "poly2/R-101"],
    "ts": [1795310036123, 1795310037123],
    "values": {"temperature": [171.2, None], "pressure": [5.8, 5.9]},
    "quality": {"temperature": ["GOOD", "BAD"], "pressure": "UNCERTAIN"},
    "units": {"temperature": "Cel"},
    "batch": {"batch_id": 712, "phase_started": 1795310000000},
}
GOOD_INPUTS = [
    FRAME,
    READING,
    COLUMNS,
    FRAME | {"quality": "Bad_SensorFailure", "units": {"pressure": "kPa"}},
    FRAME | {"values": {"temperature": None}, "batch": None},
    READING | {"value": None, "unit": "K", "quality": 0},
    COLUMNS | {"asset": "poly2/R-101", "quality": "GOOD"},
]
BAD_INPUTS = [
    FRAME | {"values": {"temperature": "171.2"}},
    FRAME | {"ts": 1.5},
    FRAME | {"asset": None},
    {name: value for name, value in FRAME.items() if name != "ts"},
    {name: value for name, value in READING.items() if name != "value"},
    COLUMNS | {"values": {"temperature": ["171.2", 1.0]}},
    READING | {"value": True},
    [],
]


def with_fault(part: str, value: Any) -> dict[str, Any]:
    """The design's example with one member of its data replaced."""
    event = json.loads(DESIGN_EXAMPLE)
    event["data"][part] = value
    return event


def written(kind: Kind, event: EventName) -> OutRecord:
    told = Transition(0, 0, 0, event, 10**18 + 5, 10**18, 10**18, 1, 500, math.nan)
    fault = Fault(code="STUCK", unit="Cel", value=math.inf)
    facts = FACTS if kind is Kind.ANOMALY else Facts(fault=fault if kind is Kind.SENSOR_FAULT else None)
    alert = build_alert(told, source=SOURCE, asset=ASSET, kind=kind, subject="", facts=facts)
    return cloudevent(alert, source=SOURCE, asset=ASSET, time_ns=10**18, sequence=1, origin=ORIGIN)


@pytest.mark.parametrize("path", sorted(DOCUMENTS))
def test_the_published_files_are_what_the_types_say(path: str):
    published = (ROOT / path).read_text(encoding="utf-8")
    assert published == render(DOCUMENTS[path]), "hint: python -m monitor.schemas writes them anew"


def test_the_design_example_fits_the_alert_schema():
    assert violations(json.loads(DESIGN_EXAMPLE), ALERT) == []


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("event", [EventName.RAISED, EventName.UPDATED, EventName.CLEARED])
def test_every_written_alert_fits_the_alert_schema_also_in_its_short_form(kind: Kind, event: EventName):
    record = written(kind, event)
    assert violations(json.loads(record.value or b""), ALERT) == []
    short = shorten(record, size_of(record) - 1) if kind is Kind.ANOMALY else record
    assert violations(json.loads(short.value or b""), ALERT) == []


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("severity", 0),
        ("severity", 1001),
        ("severity", "640"),
        ("event", "RISEN"),
        ("kind", "ALARM"),
        ("incident_id", None),
        ("raised_at", None),
        ("contributions", json.loads(DESIGN_EXAMPLE)["data"]["contributions"] * 9),
        ("batch", {}),
    ],
)
def test_what_is_no_alert_does_not_fit_the_alert_schema(part: str, value: Any):
    assert violations(with_fault(part, value), ALERT) != []


@pytest.mark.parametrize("attribute", ["id", "source", "specversion", "type", "subject", "time", "data"])
def test_attributes_of_cloudevents_are_required(attribute: str):
    event = json.loads(DESIGN_EXAMPLE)
    del event[attribute]
    assert violations(event, ALERT) == [f"$: {attribute} is missing"]


def test_a_threshold_event_has_the_fields_of_a_threshold_version():
    fields = {field.name for field in msgspec.structs.fields(ThresholdVersion)}
    assert {name.removesuffix("_ns") for name in fields} == set(Threshold.__struct_fields__) - {"truncated"}


def test_a_written_threshold_version_fits_its_schema():
    record = threshold_event(
        VERSION | {"n_eff": math.nan, "old_limit": None},
        source=SOURCE,
        asset=ASSET,
        bundle="",
        time_ns=0,
        origin=ORIGIN,
    )
    event = json.loads(record.value or b"")
    assert violations(event, THRESHOLD) == []
    del event["data"]["nu"]
    assert violations(event, THRESHOLD) == ["$.data: nu is missing"]


@pytest.mark.parametrize("reason", Reason)
def test_headers_of_a_written_dead_letter_fit_their_schema(reason: Reason):
    letter = dead_letter(
        RawRecord(1, 2, None, b"x" * 900), reason, "y" * 900, topic="sensors", version="1.2", time_ns=0
    )
    for record in (letter, shorten(letter, size_of(letter) - 1)):
        assert violations({name: value.decode() for name, value in record.headers}, DEAD_LETTER) == []


@pytest.mark.parametrize("message", GOOD_INPUTS)
def test_what_fits_the_input_schema_is_read_by_the_codec(message: Any):
    assert violations(message, INPUT) == []
    decoded = _codec().decode([RawRecord(0, 0, None, json.dumps(message).encode())])
    assert decoded.rejected == ()
    assert sum(len(batch.time) for batch in decoded.batches) == (2 if isinstance(message["ts"], list) else 1)


@pytest.mark.parametrize("message", BAD_INPUTS)
def test_what_does_not_fit_the_input_schema_is_refused_by_the_codec(message: Any):
    assert violations(message, INPUT) != []
    decoded = _codec().decode([RawRecord(0, 0, None, json.dumps(message).encode())])
    assert len(decoded.rejected) == 1


def test_the_input_types_name_the_fields_that_the_codec_reads():
    def names(*kinds: Any) -> set[str]:
        return {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}

    documented = names(input_data.Frame, input_data.Reading, input_data.Columns)
    assert documented - {"seq"} == names(codec._Message)
    assert names(input_data.InputBatch) == names(codec._BatchField)


MINIMAL: dict[str, Any] = {
    "site": "plant-a",
    "source": {"kind": "memory"},
    "asset_classes": {
        "reactor": {
            "assets": ["poly2/*"],
            "sampling": "1h30min",
            "sensors": {"temperature": {"unit": "Cel", "range": [0, 200], "stuck_after": None}},
        }
    },
}


def set_in(path: str, value: Any) -> dict[str, Any]:
    """The minimal configuration with one setting changed."""
    changed = copy.deepcopy(MINIMAL)
    place = changed
    *steps, last = path.split(".")
    for step in steps:
        place = place.setdefault(step, {})
    place[last] = value
    return changed


def test_a_minimal_configuration_fits_the_settings_schema():
    assert violations(MINIMAL, settings_schema()) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sites", "x"),
        ("site", 5),
        ("asset_classes.reactor.sampling", 10),
        ("asset_classes.reactor.sampling", "10 parsecs"),
        ("asset_classes.reactor.sensors.temperature.role", "sensor"),
        ("asset_classes.reactor.sensors.temperature.range", [0]),
        ("asset_classes.reactor.sensors.temperature.range", [0, 1, 2]),
        ("asset_classes.reactor.calibration", {"nue": 0.1}),
        ("asset_classes.reactor.scoring", {"scorers": {"pca": {"explained": 1.5}}}),
        ("asset_classes.reactor.scoring", {"scorers": {"pca": {"explain": 0.5}}}),
        (
            "asset_classes.reactor.scoring",
            {"auto": {"candidates": {"robust_autoencoder": {"groups": "rings"}}}},
        ),
        ("times", {"range": ["2000-01-01T00:00:00Z", 5]}),
    ],
)
def test_a_wrong_setting_does_not_fit_the_settings_schema(path: str, value: Any):
    assert len(violations(set_in(path, value), settings_schema())) >= 1


def test_settings_carry_their_descriptions_and_their_defaults_as_they_are_written():
    defs = settings_schema()["$defs"]
    lateness = defs["EventTime"]["properties"]["lateness"]
    assert lateness["default"] == "5s"
    assert lateness["description"] == "an asset's watermark trails its highest accepted time by this much."
    times = defs["Times"]["properties"]["range"]["default"]
    assert list(times) == ["2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z"]
    assert defs["Alerting"]["properties"]["realert"]["default"] == "1h"
    for name, each in defs.items():
        for setting, schema in each.get("properties", {}).items():
            assert schema.keys() & {"description", "$ref"}, f"{name}.{setting} is not documented"


@pytest.mark.parametrize("text", ["500ms", "10s", "1h30min", "1 h 30 min", "1.5d"])
def test_durations_that_the_schema_takes_are_durations(text: str):
    assert violations(set_in("asset_classes.reactor.sampling", text), settings_schema()) == []
    assert Duration.parse(text) > 0


def shipped_configurations() -> list[Path]:
    files = sorted([*ROOT.glob("config/*.yaml"), *ROOT.glob("examples/*/*.yaml")])
    return [path for path in files if "asset_classes" in yaml.safe_load(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", shipped_configurations(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shipped_configurations_fit_the_settings_schema(path: Path):
    assert violations(yaml.safe_load(path.read_text(encoding="utf-8")), settings_schema()) == []


def test_every_reference_of_the_asyncapi_document_points_to_something():
    document = asyncapi()

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if "$ref" in part else []
            return own + [each for value in part.values() for each in references(value)]
        return [each for value in part for each in references(value)] if isinstance(part, list) else []

    found = references(document)
    assert len(found) >= 14
    for reference in found:
        file, _, pointer = reference.partition("#")
        target = DOCUMENTS[f"docs/schemas/{file.removeprefix('./')}"] if file else document
        if pointer:
            resolve(f"#{pointer}", target)


def test_the_asyncapi_addresses_are_the_default_topics():
    channels, topics = asyncapi()["channels"], SinkTopics()
    assert {name: channels[name]["address"] for name in ("alerts", "thresholds", "deadLetters")} == {
        "alerts": topics.alerts,
        "thresholds": topics.thresholds,
        "deadLetters": topics.dead_letter,
    }


def test_attribute_texts_span_lines_and_lose_their_breaks():
    def example() -> None:
        """What it is.

        Attributes:
            first: one text
                over two lines.
            second: another: with a colon.
        """

    assert attribute_texts(example.__doc__ or "") == {
        "first": "one text over two lines.",
        "second": "another: with a colon.",
    }
    assert attribute_texts("Nothing here.") == {}


def test_the_schemas_are_written_below_the_given_folder(tmp_path: Path):
    paths = schemas.write(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in paths) == sorted(DOCUMENTS)
    assert json.loads((tmp_path / "docs/schemas/alert.v1.json").read_text(encoding="utf-8")) == ALERT


def _codec() -> Codec:
    sensors = tuple(
        SensorLayout(name, name, unit)
        for name, unit in (("temperature", "Cel"), ("pressure", "bar"), ("reaction_time", "s"))
    )
    return Codec(Layout(classes=(ClassLayout("reactor", ("poly2/*",), sensors),)))
