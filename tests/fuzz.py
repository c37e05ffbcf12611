"""The fuzzer: damaged, spliced and twisted records from the corpus, among good ones, through codec and fold.

``python -m tests.fuzz --inputs 1000000`` (``make fuzz``) runs it offline; the tests run a few rounds. A round is a
function of its seed, so that what it finds can be had again: ``python -m tests.fuzz --seed N --rounds 1``.

What must hold in every round, whatever the records hold:

1. nothing raises;
2. every record is accounted for: it has a row in a batch, or it is rejected, with a bounded reason and a detail that
   can be printed; none is dropped;
3. what is taken is sound: finite numbers where the quality says so, times within the range, known columns;
4. an asset whose records are good is decoded and scored, to the last bit, as if it were alone.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from connectors.codec import Codec
from connectors.records import Decoded, Quality, RawRecord, Reason
from tests.disturbances import clean, encoded
from tests.hostile import hostile_world, ran
from tests.payloads import GOOD, LAYOUT, ODDITIES, PAYLOADS, ipc
from tests.worlds import World, autoregressive

os.environ.setdefault("JAX_PLATFORMS", "cpu")
BYSTANDER = "poly2/R-102"
_MOST = 20_000
"""Bytes of a record that is worth damaging; the large ones of the corpus are refused by their length alone."""
_FOLD_EVERY = 25
"""One round in so many goes through the whole fold, too: that costs much more than decoding."""
_TOKENS = [
    b"null", b"true", b"-0.0", b"1e999", b"-1e999", b"NaN", b"Infinity", b'""', b"[]", b"{}", b"[null]", b'"12.3"',
    b"9" * 400, b"1." + b"3" * 400, b"0x10", b"1795310036", b"1795310036123456789", b"-1", b"[[[[[[]]]]]]",
    b'"2026-02-30T00:00:00Z"', b'"\\u0000"', b'"\\u202e"', b'"\\ud800"', b"\xff\xfe", b"1,5", b'{"a":{"a":{}}}',
    b'"poly2/R-101"', b'"poly2/R-102x"', b'"temperature"', b'"BAD"', b"2147483648", b"0", b"18446744073709551616",
]  # fmt: skip


class Seeds(NamedTuple):
    """Records that are taken, and records that are refused, before they are damaged."""

    good: list[bytes]
    bad: list[bytes]


def seeds() -> Seeds:
    """What is damaged: every small entry of the corpus, good records of every form, and Arrow messages."""
    import pyarrow as pa

    arrow = {
        "asset": pa.array(["poly2/R-101", "poly2/R-103", "poly2/R-101"]),
        "ts": pa.array([1795310036123] * 3, pa.int64()),
        "temperature": pa.array([1.0, None, 3.0]),
        "temperature__quality": pa.array(["GOOD", None, "BAD"]),
        "batch_id": pa.array(["B-1", "B-1", None]),
    }
    single = b'{"asset":"poly2/R-101","ts":1795310036123,"sensor":"pressure","value":5.8,"unit":"bar{gauge}"}'
    columns = (
        b'{"asset":["poly2/R-101","poly2/R-103"],"ts":[1795310036123,1795310036124],'
        b'"values":{"temperature":[1,2],"pressure":[null,3]},"quality":{"temperature":["BAD","GOOD"]}}'
    )
    batch = GOOD[:-1] + b',"batch":{"batch_id":"B-1","phase":"REACT","phase_started":1795310036123}}'
    good = [GOOD, batch, single, columns, ipc(arrow), *(oddity.value for oddity in ODDITIES)]
    bad = [payload.value for payload in PAYLOADS if payload.value and len(payload.value) <= _MOST]
    return Seeds(good, bad)


def twisted(rng: random.Random, known: Seeds) -> bytes:
    """One record, more often a good one, with up to six pieces of damage, mostly one."""
    record = bytearray(rng.choice(known.good if rng.random() < 0.7 else known.bad))
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 2, 3, 6))):
        _DAMAGE[rng.randrange(len(_DAMAGE))](rng, record, known)
        if not record:
            break
    return bytes(record[:_MOST])


def _flip(rng: random.Random, record: bytearray, known: Seeds) -> None:
    del known
    record[rng.randrange(len(record))] = rng.randrange(256)


def _cut(rng: random.Random, record: bytearray, known: Seeds) -> None:
    del known
    del record[rng.randrange(len(record)) :]


def _drop(rng: random.Random, record: bytearray, known: Seeds) -> None:
    del known
    at = rng.randrange(len(record))
    del record[at : at + rng.randint(1, 8)]


def _repeat(rng: random.Random, record: bytearray, known: Seeds) -> None:
    del known
    at = rng.randrange(len(record))
    record[at:at] = record[at : at + rng.randint(1, 40)] * rng.randint(1, 3)


def _splice(rng: random.Random, record: bytearray, known: Seeds) -> None:
    other = rng.choice(rng.choice(known))
    at, cut = rng.randrange(len(record)), rng.randrange(len(other) + 1)
    record[at:] = other[cut:]


def _token(rng: random.Random, record: bytearray, known: Seeds) -> None:
    """What stands between two marks of JSON becomes something nasty."""
    del known
    marks = [at for at, byte in enumerate(record[:2000]) if byte in b"{}[]:,"]
    if len(marks) < 2:
        return
    first = rng.randrange(len(marks) - 1)
    record[marks[first] + 1 : marks[first + 1]] = rng.choice(_TOKENS)


def _swap(rng: random.Random, record: bytearray, known: Seeds) -> None:
    del known
    one, other = rng.randrange(len(record)), rng.randrange(len(record))
    record[one], record[other] = record[other], record[one]


_DAMAGE = (_flip, _cut, _drop, _repeat, _splice, _token, _token, _token, _swap)


class FindingError(AssertionError):
    """Something that must hold did not; the text names the record."""


def good_records(count: int) -> list[bytes]:
    """Frames of the bystander, one a second."""
    head = f'{{"asset":"{BYSTANDER}","ts":'
    return [
        f'{head}{1795310036000 + 1000 * n},"values":{{"temperature":{170 + n % 7},"pressure":5.5}}}}'.encode()
        for n in range(count)
    ]


def records_of(values: Sequence[bytes | None]) -> list[RawRecord]:
    return [RawRecord(0, offset, None, value) for offset, value in enumerate(values)]


def check_decoded(records: Sequence[RawRecord], decoded: Decoded) -> None:
    """What must hold of a decode.

    Raises:
        FindingError: something does not.
    """
    rejected = {one.record.offset: one for one in decoded.rejected}
    if len(rejected) != len(decoded.rejected):
        raise FindingError("a record was rejected twice")
    taken = {int(offset) for batch in decoded.batches for offset in batch.offset}
    for record in records:
        if record.offset not in rejected and record.offset not in taken:
            raise FindingError(f"dropped without a word: {record.value!r}")
    for one in decoded.rejected:
        if (
            one.reason not in Reason
            or not one.detail
            or len(one.detail) > 500
            or not one.detail.isprintable()
        ):
            raise FindingError(f"{one.reason} {one.detail!r} of {one.record.value!r}")
        if records[one.record.offset] is not one.record:
            raise FindingError(f"not the original record: {one.record!r}")
    for batch in decoded.batches:
        given = (batch.quality != Quality.ABSENT) & (batch.quality != Quality.NON_FINITE)
        finite = np.isfinite(batch.values)
        spoken = given & (batch.quality != Quality.BAD)
        low, high = LAYOUT.time.earliest, LAYOUT.time.latest
        if not finite[spoken].all() or np.isfinite(batch.values[batch.quality == Quality.ABSENT]).any():
            raise FindingError("a value does not fit its quality")
        if ((batch.time < low) | (batch.time > high)).any() or not (np.diff(batch.offset) >= 0).all():
            raise FindingError("a time outside the range, or rows out of order")


class Round(NamedTuple):
    """Damaged records and good ones, one of each in turn."""

    seed: int
    values: list[bytes]


def round_of(seed: int, count: int, known: Seeds) -> Round:
    """The records of a round: as many good as damaged ones up to 100, a function of the seed."""
    rng = random.Random(seed)
    hurt = [twisted(rng, known) for _ in range(count)]
    mixed = zip_longest(hurt, good_records(min(count, 100)))
    return Round(seed, [value for pair in mixed for value in pair if value is not None])


def bystanders(decoded: Decoded) -> list[tuple[int, bytes, bytes]]:
    """Time, values and quality of the bystander's rows that came in its own records."""
    return [
        (int(batch.time[row]), batch.values[row].tobytes(), batch.quality[row].tobytes())
        for batch in decoded.batches
        for row in range(len(batch.time))
        if batch.assets[batch.asset[row]] == BYSTANDER
    ]


@cache
def rows_alone(count: int) -> list[tuple[int, bytes, bytes]]:
    """The bystander's rows without anything beside them."""
    return bystanders(Codec(LAYOUT).decode(records_of(good_records(count))))


def check_round(codec: Codec, known: Seeds, seed: int, count: int) -> Counter[str]:
    """Decode one round and check it; returns reasons, and TAKEN for records that were taken whole.

    Raises:
        FindingError: something does not hold; its text has the seed.
    """
    made = round_of(seed, count, known)
    records = records_of(made.values)
    try:
        decoded = codec.decode(records)
        check_decoded(records, decoded)
        alone = rows_alone(min(count, 100))
        among = bystanders(decoded)
        if [row for row in among if row in set(alone)][: len(alone)] != alone:
            raise FindingError("the good asset's rows are not as they were alone")
    except FindingError as finding:
        raise FindingError(f"seed {seed}: {finding}") from None
    except Exception as error:
        raise FindingError(f"seed {seed}: {type(error).__name__}: {error}") from error
    counts = Counter(str(one.reason) for one in decoded.rejected)
    counts["TAKEN"] = len(records) - len(decoded.rejected)
    return counts


def check_fold(trained: World, known: Seeds, seed: int, count: int) -> Counter[str]:
    """Push one round through the whole fold and check what an asset beside it notices, which is nothing.

    Raises:
        FindingError: something does not hold; its text has the seed.
    """
    rng = random.Random(seed)
    calm = encoded(clean(BYSTANDER, autoregressive(seed % 1000, 100, 3)))
    hurt = [twisted(rng, known) for _ in range(count)]
    mixed = [value for pair in zip_longest(hurt, calm) for value in pair if value is not None]
    try:
        alone, among = ran(trained, calm), ran(trained, mixed, cut=rng.choice((1, 7, 50, 1000)))
    except Exception as error:
        raise FindingError(f"seed {seed}, fold: {type(error).__name__}: {error}") from error
    named = any(BYSTANDER.encode() in value for value in hurt)  # then they are its own records
    if not named and among.figures[BYSTANDER] != alone.figures[BYSTANDER]:
        raise FindingError(f"seed {seed}, fold: the scores of the good asset have changed")
    refused = sum(among.counts[reason] for reason in Reason)
    if refused != len(among.letters):
        raise FindingError(
            f"seed {seed}, fold: {refused} refusals counted, {len(among.letters)} dead letters"
        )
    return among.counts


def main(words: Sequence[str] | None = None) -> int:
    """Run rounds until enough inputs were tried, and print what came of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--inputs", type=int, default=1_000_000, help="damaged records (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first round (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=200, help="damaged records of a round (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, help="instead of --inputs")
    arguments = parser.parse_args(words)
    rounds = arguments.rounds or -(-arguments.inputs // arguments.size)
    known, codec, counts = seeds(), Codec(LAYOUT), Counter[str]()
    begun = time.monotonic()
    trained = hostile_world()
    for number in range(rounds):
        counts += check_round(codec, known, arguments.seed + number, arguments.size)
        if number % _FOLD_EVERY == 0:
            check_fold(trained, known, arguments.seed + number, arguments.size)
    seconds, folded = time.monotonic() - begun, -(-rounds // _FOLD_EVERY)
    print(f"{rounds * arguments.size:,} damaged records in {rounds:,} rounds, {seconds:.0f} s, no finding;")
    print(f"{folded * arguments.size:,} of them through the whole fold as well")
    for reason, count in counts.most_common():
        print(f"  {reason:<18}{count:>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
