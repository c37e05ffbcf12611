"""What producers may send, as types: the published JSON Schema of input messages is generated from here.

The codec reads these forms without building them (see `connectors.codec`); a test keeps the two together.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from connectors.records import Reason

When = int | str
"""ISO 8601 text with an offset from UTC, or an integer in the unit that ``times.unit`` names (default ms)."""
Word = int | str | None
"""GOOD, UNCERTAIN, BAD, a name of an OPC UA status code that begins with one of these, or its number."""
Identifier = int | str | None
NonNegative = Annotated[int, Meta(ge=0)]


class InputBatch(Struct, frozen=True):
    """Batch context of a reading, in the words of ISA-88.

    Attributes:
        batch_id: the batch.
        recipe: its recipe.
        phase: the phase that it is in.
        phase_started: when that phase began.
        lot: the lot or campaign.
    """

    batch_id: Identifier = None
    recipe: Identifier = None
    phase: Identifier = None
    phase_started: When | None = None
    lot: Identifier = None


class Frame(Struct, frozen=True, kw_only=True):
    """All readings of one asset at one time.

    Attributes:
        asset: the asset's name; also the key of the record.
        ts: event time.
        values: a number, or null for no reading, for each sensor's tag.
        quality: one word for all values, or a word for some tags; GOOD where nothing is said.
        units: UCUM codes of tags that are not in their configured units; they are converted.
        batch: batch context.
    """

    asset: str
    ts: When
    values: dict[str, float | None]
    quality: dict[str, Word] | int | str | UnsetType | None = UNSET
    units: dict[str, str] | UnsetType | None = UNSET
    batch: InputBatch | UnsetType | None = UNSET


class Reading(Struct, frozen=True, kw_only=True):
    """One reading of one sensor.

    Attributes:
        asset: the asset's name; also the key of the record.
        ts: event time.
        sensor: the sensor's tag.
        value: null for no reading.
        quality: of the reading; GOOD where nothing is said.
        unit: UCUM code, where it is not the configured one; the value is converted.
        batch: batch context.
        seq: a producer's own counter; allowed and not used.
    """

    asset: str
    ts: When
    sensor: str
    value: float | None
    quality: Word | UnsetType = UNSET
    unit: str | UnsetType | None = UNSET
    batch: InputBatch | UnsetType | None = UNSET
    seq: NonNegative | UnsetType = UNSET


class Columns(Struct, frozen=True, kw_only=True):
    """Many rows in one message; every list has one entry per row.

    Attributes:
        asset: one name for all rows, or a list.
        ts: event times.
        values: a list of numbers or nulls for each sensor's tag.
        quality: one word for all values, or for some tags a word or a list of words.
        units: UCUM codes of tags that are not in their configured units; they are converted.
        batch: batch context of all rows.
    """

    asset: str | list[str]
    ts: list[When]
    values: dict[str, list[float | None]]
    quality: dict[str, list[Word] | int | str | None] | int | str | UnsetType | None = UNSET
    units: dict[str, str] | UnsetType | None = UNSET
    batch: InputBatch | UnsetType | None = UNSET


class DeadLetterHeaders(Struct, frozen=True, rename="kebab"):
    """Headers that stand behind the original ones of a dead letter; its key and value are the original bytes.

    Attributes:
        x_error_reason: why the record, or a row of it, was not accepted.
        x_error_detail: what was got and what was expected.
        x_error_topic: the topic or file that the record came from.
        x_error_partition: its partition.
        x_error_offset: its offset.
        nuwatch_id: the same for the same record, however often it is rejected.
        x_error_version: the version of nuwatch that rejected it.
        x_error_time: event time of the rejected reading, where it is known.
        x_error_received: the broker's time of the record, where it is known.
        x_error_rebuilt: 'row' where the value is one row of a record, written anew as a frame; its other rows were
            taken, or have dead letters of their own.
        x_error_original_size: size of the original value in bytes, where the value had to be cut.
    """

    x_error_reason: Reason
    x_error_detail: Annotated[str, Meta(max_length=500)]
    x_error_topic: str
    x_error_partition: Annotated[str, Meta(pattern="^[0-9]+$")]
    x_error_offset: Annotated[str, Meta(pattern="^[0-9]+$")]
    nuwatch_id: str
    x_error_version: str
    x_error_time: str | UnsetType = UNSET
    x_error_received: str | UnsetType = UNSET
    x_error_rebuilt: Literal["row"] | UnsetType = UNSET
    x_error_original_size: str | UnsetType = UNSET
