"""What may be set of a scorer: ranges, and what a search draws from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest
from msgspec import Meta

from models.hyperparameters import Searched, draw, hyperparameters
from models.registry import built_in_names, get_scorer


@dataclass(frozen=True)
class Plain:
    """As of another package: nothing is said of its fields."""

    power: float = 2.0


@dataclass(frozen=True)
class Told:
    """A spec that says everything."""

    share: Annotated[float, Meta(gt=0.0, le=1.0), Searched(0.01, 1.0)] = 0.1
    order: Annotated[int, Meta(ge=1), Searched(2, 4, linear=True)] = 2
    how: Literal["a", "b"] = "a"
    epochs: Annotated[int, Meta(ge=1)] = 7


@pytest.mark.parametrize("name", built_in_names())
def test_every_field_of_every_scorer_has_a_range_that_holds_its_default(name: str) -> None:
    known = hyperparameters(get_scorer(name).spec)
    assert [one.name for one in known] == [f.name for f in dataclasses.fields(get_scorer(name).spec)]
    assert [one.name for one in known if not one.range] == []
    assert all(one.accepts(one.default) for one in known)
    searched = [one for one in known if one.searched is not None]
    assert searched, "or --tune has nothing to do"
    for one in searched:
        assert one.searched is not None
        assert one.accepts(type(one.default)(one.searched.low))
        assert one.accepts(type(one.default)(one.searched.high))
        assert one.searched.low < one.searched.high


def test_ranges_hold_their_ends_as_they_say() -> None:
    share, order, how, _ = hyperparameters(Told)
    assert share.range == "more than 0, at most 1"
    assert [share.accepts(value) for value in (0.0, 1e-9, 1.0, 1.0001)] == [False, True, True, False]
    assert [order.accepts(value) for value in (0, 1)] == [False, True]
    assert how.range == "one of a, b"
    assert [how.accepts(value) for value in ("b", "c")] == [True, False]
    (power,) = hyperparameters(Plain)
    assert (power.range, power.accepts(-1e9)) == ("", True)


def test_what_is_drawn_lies_where_is_searched_evenly_in_the_logarithm_and_the_rest_is_left() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw(Told, rng) for _ in range(3000)]
    assert all(set(one) == {"share", "order"} for one in drawn)
    shares = np.array([one["share"] for one in drawn])
    assert shares.min() >= 0.01
    assert shares.max() <= 1.0
    assert np.mean(shares < 0.1) == pytest.approx(0.5, abs=0.03), "half of two decades"
    assert {one["order"] for one in drawn} == {2, 3, 4}
    assert draw(Plain, rng) == {}


def test_one_seed_draws_the_same_values() -> None:
    first, again, other = (
        [draw(Told, rng) for _ in range(5)] for rng in map(np.random.default_rng, (3, 3, 4))
    )
    assert first == again != other
