"""When a state can be kept in a changelog, and what is said when it cannot. No broker is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.configuration import parse
from monitor.connect import make_shared
from monitor.errors import ConfigurationError
from monitor.validation.whole import check

TEXT = """
site: test
source: {source}
sink: {sink}
state: {{changelog: nuwatch-state}}
asset_classes:
  unit:
    assets: ["plant/*"]
    sampling: 1s
    sensors: {{s0: {{unit: Cel}}}}
"""
KAFKA = "{kind: kafka, bootstrap_servers: ['localhost:9092', 'localhost:9093'], topic: sensors}"
SINK = "{kind: kafka, bootstrap_servers: ['localhost:9093']}"


@pytest.mark.parametrize(
    ("source", "sink", "said"),
    [
        ("{kind: files, paths: ['*.csv']}", SINK, "got source.kind 'files', expected kafka for both"),
        (KAFKA, "{kind: memory}", "got sink.kind 'memory', expected kafka for both"),
        (
            KAFKA.replace("topic", "group: null, topic"),
            SINK,
            "without a group, or with an end, expected a group",
        ),
        (
            KAFKA.replace("topic", "until: end, topic"),
            SINK,
            "without a group, or with an end, expected a group",
        ),
        (KAFKA, SINK.replace("9093", "9094"), "no bootstrap server in common, expected one cluster"),
    ],
)
def test_what_cannot_be_shared_is_refused_by_name(source: str, sink: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text(TEXT.format(source=source, sink=sink))
    with pytest.raises(ConfigurationError, match=r"state\.changelog: ") as refused:
        make_shared(parse(file.read_text(), file), "nuwatch-state")
    assert said in str(refused.value)
    found = [finding for finding in check(file).findings.sorted() if "changelog" in str(finding)]
    assert len(found) == 1


def test_kafka_on_both_sides_with_a_group_can_be_shared() -> None:
    source, ledger = make_shared(
        parse(TEXT.format(source=KAFKA, sink=SINK), Path("plant.yaml")), "nuwatch-state"
    )
    assert source.lag is None
    assert ledger.largest_row == 1_048_576
