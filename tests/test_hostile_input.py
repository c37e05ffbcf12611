"""Bad input is counted by reason and goes to the dead-letter channel; what follows is scored as if nothing had been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.codec import Codec
from connectors.records import Reason
from monitor.alerting.short_form import size_of
from tests.disturbances import DISTURBANCES, ROWS, Counted, Disturbance, clean, encoded
from tests.fuzz import FindingError, check_decoded, check_fold, check_round, records_of, seeds
from tests.hostile import ASSETS, Ran, good_records, hostile_world, ran
from tests.payloads import GOOD, LAYOUT, PAYLOADS
from tests.worlds import World, autoregressive

SEEDS = seeds()


@pytest.fixture(scope="module")
def trained() -> World:
    return hostile_world()


def test_good_records_among_bad_ones_are_scored_as_if_alone(trained: World) -> None:
    good = good_records(7, 120)
    rng = np.random.default_rng(1)
    places = np.sort(rng.integers(0, len(good), len(PAYLOADS)))
    mixed: list[bytes | None] = list(good)
    for place, payload in sorted(zip(places.tolist(), PAYLOADS, strict=True), key=lambda p: -p[0]):
        mixed.insert(place, payload.value)
    alone, among = ran(trained, good), ran(trained, mixed)
    assert alone.letters == []
    assert among.figures == alone.figures
    expected = Counter(payload.reason for payload in PAYLOADS)
    assert {reason: among.counts[reason] for reason in expected} == dict(expected)
    small = [p.value for p in PAYLOADS if len(p.value or b"") < trained.settings.max_event - 10_000]
    assert Counter(letter.value for letter in among.letters) >= Counter(small)
    assert len(among.letters) == len(PAYLOADS)
    assert max(map(size_of, among.letters)) <= trained.settings.max_event


CALM = autoregressive(83, ROWS, 3)
"""The clean stream of the disturbed asset; nothing is raised on it."""
HELD_AT_FIRST = 3
"""The first readings of an asset are held until three agree."""
COLLATERAL = {("ANOMALY", ""), ("DATA_GAP", "coverage")}
"""What a disturbance may raise beside what it must; everything else is wrong."""


def interleaved(first: Sequence[bytes], second: Sequence[bytes]) -> list[bytes]:
    """One of each in turn, and then what is left."""
    pairs = [record for pair in zip_longest(first, second) for record in pair]
    return [record for record in pairs if record is not None]


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda one: one.name)
def test_a_disturbance_is_counted_told_and_stays_with_its_asset(
    trained: World, disturbance: Disturbance
) -> None:
    victim, bystander = ASSETS
    untouched = encoded(clean(bystander, autoregressive(78, ROWS, 3)))
    hurt = encoded(disturbance.change(clean(victim, CALM)))
    alone, among = ran(trained, untouched), ran(trained, interleaved(hurt, untouched))
    assert among.figures[bystander] == alone.figures[bystander]
    among.counts["HELD"] -= 2 * HELD_AT_FIRST
    assert {name: among.counts[name] for name in Counted if among.counts[name]} == disturbance.counts
    assert [reason for reason in Reason if reason not in Counted and among.counts[reason]] == []
    assert len(among.letters) == among.counts["LATE"] + among.counts["FUTURE_TIME"]
    raised = raised_by(ran(trained, hurt))
    assert disturbance.raised <= raised
    assert raised - disturbance.raised <= COLLATERAL


def raised_by(result: Ran) -> set[tuple[str, str]]:
    return {(one["kind"], one.get("subject", "")) for one in result.alerts if one["event"] == "RAISED"}


def test_without_a_disturbance_nothing_is_counted_or_told(trained: World) -> None:
    calm = ran(trained, encoded(clean(ASSETS[0], CALM)))
    assert {name: calm.counts[name] for name in (*Counted, *Reason) if calm.counts[name]} == {
        "HELD": HELD_AT_FIRST
    }
    assert (calm.letters, calm.alerts) == ([], [])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_twisted_records_are_decoded_or_refused_and_harm_nobody(seed: int) -> None:
    check_round(Codec(LAYOUT), SEEDS, seed, 40)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32))
def test_twisted_records_go_through_the_whole_fold_and_harm_nobody(trained: World, seed: int) -> None:
    check_fold(trained, SEEDS, seed, 60)


def test_the_fuzzer_sees_a_record_that_is_dropped_and_a_value_that_is_unsound() -> None:
    records = records_of([GOOD, b"{}"])
    decoded = Codec(LAYOUT).decode(records)
    with pytest.raises(FindingError, match="dropped without a word"):
        check_decoded(records, decoded._replace(rejected=()))
    batch = decoded.batches[0]
    infinite = batch._replace(values=np.full_like(batch.values, np.inf))
    with pytest.raises(FindingError, match="does not fit its quality"):
        check_decoded(records, decoded._replace(batches=(infinite,)))
