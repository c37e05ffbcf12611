"""A proposal as a commented configuration file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from monitor.proposal import Proposal, ProposedSensor
from monitor.proposal_rules import event_time

_MOST_NAMES = 20
"""More assets than this are named by a pattern."""
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def text_of(proposal: Proposal, folder: Path) -> str:
    """The configuration.

    Args:
        proposal: what a file seems to be.
        folder: where the configuration will stand; the recording's path is written relative to it.
    """
    parts = (_head(proposal), _CONNECTIONS, _recordings(proposal, folder), _asset_class(proposal))
    return "\n".join(parts)


def _head(proposal: Proposal) -> str:
    whole = "" if proposal.whole else " (the beginning of it)"
    checks = "\n".join(f"#   - {check}" for check in proposal.checks)
    return f"""\
# Proposed by `nuwatch init --from {proposal.path.name}` from {proposal.rows} rows{whole}.
# Guesses, to be checked before anything is believed:
{checks}
#
# Then: nuwatch validate, nuwatch train, nuwatch replay. Every key that is missing has a default; `nuwatch schema
# settings` lists all of them, and makes an editor complete and explain them:
# yaml-language-server: $schema=nuwatch.schema.json

site: plant-a                     # in every alert, as its source: /nuwatch/plant-a
"""


_CONNECTIONS = """\
source:                           # live readings, for `nuwatch run`; `train` and `replay` use `recordings`
  kind: kafka
  bootstrap_servers: ["localhost:9092"]
  topic: sensors

sink:                             # where alerts go; or kind: files with directory: alerts
  kind: kafka
  bootstrap_servers: ["localhost:9092"]
  create_topics: true
"""


def _recordings(proposal: Proposal, folder: Path) -> str:
    path = os.path.relpath(proposal.path.absolute(), folder.absolute())
    lines = [
        "recordings:                       # for `train` and `replay`; commands can be given other files"
    ]
    lines.append(f"  paths: [{_quoted(path)}]")
    if not proposal.path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv", ".txt", ".dat")):
        lines.append("  format: csv")
    if proposal.delimiter != ",":
        lines.append(f"  delimiter: {json.dumps(proposal.delimiter)}")
    if proposal.decimal != ".":
        lines.append('  decimal: ","')
    if proposal.encoding != "utf8":
        lines.append(f"  encoding: {proposal.encoding}              # CHECK")
    lines += _time_lines(proposal)
    if proposal.asset_column is None:
        lines.append(
            f"  asset: {_scalar(proposal.asset)}" + '    # CHECK: "{stem}" names each file\'s asset after it'
        )
    else:
        lines.append(f"  asset_column: {_scalar(proposal.asset_column)}")
    lines += [f"  {word}: {_scalar(column)}" for word, column in proposal.context.items()]
    if "batch_id" in proposal.context:
        lines.append("  append_batch_end: true          # the file's end closes nothing by itself")
    lines += [f"  # column {_quoted(column)}: {why}" for column, why in proposal.skipped.items()]
    return "\n".join(lines) + "\n"


def _time_lines(proposal: Proposal) -> list[str]:
    time = proposal.time
    if time.column is None:
        return [
            "  time: {period: 1.0}             # CHECK: no time column was found; seconds from row to row"
        ]
    lines = ["  time:", f"    column: {_scalar(time.column)}"]
    if time.format is not None:
        lines.append(f"    format: {_quoted(time.format)}    # CHECK")
    if time.unit is not None:
        lines.append(f"    unit: {time.unit}                      # CHECK: of numbers since 1970")
    if time.zone is not None:
        lines.append(f"    zone: {time.zone}                     # CHECK: the times say no offset from UTC")
    return lines


def _asset_class(proposal: Proposal) -> str:
    sampling, time = proposal.sampling, event_time(proposal.sampling)
    assets = ", ".join(
        _quoted(name) for name in (proposal.assets if len(proposal.assets) <= _MOST_NAMES else "*")
    )
    sensors = "\n".join(f"      {_sensor(sensor)}" for sensor in proposal.sensors)
    return f"""\
asset_classes:
  asset:                          # a name for assets with these sensors
    assets: [{assets}]            # names or patterns such as "R-*"
    sampling: {sampling}                  # the median step between rows
    bundle: bundles/asset         # where `train` writes what it learnt

    # unit: CHECK every one: UCUM codes (Cel, bar, kPa, kg/h, m3/h, r/min, kW, A, V, %, ...); "1" says nothing
    # range: CHECK every one: what the instrument can show; a reading outside is a fault of the sensor
    # role: pv, output and ambient are scored; setpoint, mode, discrete, counter and lab are context
    # tag: the column here, and the name in messages
    sensors:
{sensors}

    time:
      lateness: {time.lateness}                # how much readings are out of order or late
      max_age: {time.max_age}                 # a missing reading is carried forward this long
      max_future: {time.max_future}
      silence: {time.silence}               # a longer pause of the asset is a DATA_GAP

    window:
      length: {proposal.length}                  # samples that are judged together
      stride: 1

    calibration:
      nu: 0.01                    # the share of normal windows that may lie over the limit
      # budget: 1                 # rather: false incidents per asset and week; wants 16 asset weeks of history
"""


def _sensor(sensor: ProposedSensor) -> str:
    role = "" if sensor.role == "pv" else f", role: {sensor.role}"
    tag = "" if sensor.column == sensor.name else f", tag: {_quoted(sensor.column)}"
    span = f"[{sensor.low:.12g}, {sensor.high:.12g}]"
    return f'{_scalar(sensor.name)}: {{unit: "1", range: {span}{role}{tag}}}'


def _scalar(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else _quoted(text)


def _quoted(text: str) -> str:
    """JSON's quoting is also YAML's."""
    return json.dumps(text, ensure_ascii=False)
