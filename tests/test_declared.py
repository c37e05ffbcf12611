"""Declared changes of context: by hand, and against a plain loop under any cut and stride."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectors.records import NO_CONTEXT, Context
from monitor.configuration import parse
from monitor.event_time.grid import Slots
from monitor.thresholds.declared import Declarations, TrainedContexts

NAN = float("nan")
TRAINED = TrainedContexts(
    frozenset({"A", "B"}), frozenset({"heat", "hold"}), {"sp1": (10.0, 12.0), "sp2": (-1.0, 1.0)}
)
CLASS = parse(
    """
site: test
source: {kind: memory}
asset_classes:
  unit:
    assets: ["*"]
    sampling: 1s
    sensors:
      sp1: {unit: Cel, role: setpoint}
      t: {unit: Cel}
      sp2: {unit: bar, role: setpoint}
""",
    Path("x.yaml"),
).settings.asset_classes["unit"]


class Slot:
    """One slot of an asset: its set-points, recipe and phase."""

    def __init__(
        self, sp1: float = 10.0, sp2: float = 0.0, recipe: str | None = "A", phase: str | None = "heat"
    ) -> None:
        self.values = [sp1, 99.0, sp2]
        self.context = Context("b", recipe, phase)


def slots_of(pieces: list[tuple[int, int, Slot]]) -> tuple[Slots, list[Context]]:
    """Slots from (row, slot number, what), sorted; contexts numbered as they come, after one of no use."""
    contexts = [NO_CONTEXT, *dict.fromkeys(what.context for _, _, what in pieces)]
    count = len(pieces)
    number = np.array([k for _, k, _ in pieces], np.int64)
    return (
        Slots(
            row=np.array([row for row, _, _ in pieces], np.int32),
            slot=number,
            end=number * 10**9,
            values=np.array([what.values for _, _, what in pieces]).reshape(count, 3),
            real=np.ones((count, 3), np.float32),
            quality=np.ones((count, 3), np.uint8),
            context=np.array([contexts.index(what.context) for _, _, what in pieces], np.int32),
            batch_start=np.full(count, -1, np.int64),
            phase_start=np.full(count, -1, np.int64),
            fresh=np.zeros(count, np.bool_),
            offset=np.zeros(count, np.int64),
        ),
        contexts,
    )


def declarations(assets: int = 1) -> Declarations:
    made = Declarations(CLASS, TRAINED)
    made.grow(assets)
    return made


def declared(*stream: Slot, stride: int = 1) -> list[int]:
    """Numbers of the slots, of one asset in one push, at whose window end a change is declared."""
    slots, contexts = slots_of([(0, k, what) for k, what in enumerate(stream)])
    return np.flatnonzero(declarations().step(slots, contexts, slots.slot % stride == 0)).tolist()


def test_a_recipe_or_phase_that_training_did_not_see_is_declared_when_it_comes() -> None:
    assert declared(Slot(), Slot(recipe="C"), Slot(recipe="C"), Slot(recipe="D"), Slot(recipe="A")) == [1, 3]
    assert declared(Slot(), Slot(phase="cool"), Slot(phase="cool"), Slot(phase="hold")) == [1]


def test_changes_among_trained_contexts_and_to_none_declare_nothing() -> None:
    assert declared(Slot(), Slot(recipe="B"), Slot(phase="hold"), Slot(recipe=None, phase=None), Slot()) == []


def test_a_set_point_outside_its_trained_range_is_declared_each_time_it_moves() -> None:
    assert declared(Slot(), Slot(sp1=12.0), Slot(sp1=12.5), Slot(sp1=12.5), Slot(sp1=13.0)) == [2, 4]
    assert declared(Slot(), Slot(sp2=-1.5), Slot(sp2=-1.0), Slot(sp2=0.5)) == [1]


def test_a_sensor_that_is_no_set_point_declares_nothing() -> None:
    moved = Slot()
    moved.values[1] = 500.0
    assert declared(Slot(), moved, Slot()) == []


def test_a_set_point_that_was_not_seen_for_a_while_and_comes_back_as_it_was_is_no_change() -> None:
    """Else every gap in its readings would let a fault pass for the effect of a declared change."""
    assert declared(Slot(), Slot(sp1=14.0), Slot(sp1=NAN), Slot(sp1=NAN), Slot(sp1=14.0)) == [1]
    assert declared(Slot(), Slot(sp1=14.0), Slot(sp1=NAN), Slot(sp1=15.0)) == [1, 3]


def test_an_asset_that_is_first_seen_outside_the_training_is_declared() -> None:
    assert declared(Slot(recipe="C")) == [0]
    assert declared(Slot(sp1=20.0)) == [0]
    assert declared(Slot(sp1=NAN), Slot(sp1=20.0)) == [1]


def test_a_change_is_told_at_the_end_of_the_window_that_it_falls_into() -> None:
    quiet, new = Slot(), Slot(recipe="C")
    assert declared(quiet, new, new, new, new, new, new, stride=3) == [3]
    assert declared(quiet, quiet, quiet, new, new, new, new, stride=3) == [3]
    assert declared(quiet, quiet, quiet, quiet, new, new, stride=3) == []


def test_what_training_saw_survives_a_manifest() -> None:
    data = TRAINED.to_json()
    assert data == {
        "recipes": ["A", "B"],
        "phases": ["heat", "hold"],
        "setpoints": {"sp1": [10.0, 12.0], "sp2": [-1.0, 1.0]},
    }
    assert TrainedContexts.from_json(data) == TRAINED


def test_a_set_point_without_a_trained_value_is_always_outside_the_training() -> None:
    made = Declarations(CLASS, TrainedContexts(frozenset(), frozenset(), {}))
    made.grow(1)
    slots, contexts = slots_of([(0, 0, Slot(recipe=None, phase=None))])
    assert made.step(slots, contexts, np.ones(1, bool)).tolist() == [True]


# -- against a loop -------------------------------------------------------------------------------------------


def by_loop(stream: list[tuple[int, Slot]], stride: int) -> list[int]:
    """Slot numbers of window ends since whose predecessor a change was declared."""
    recipe: str | None = None
    phase: str | None = None
    known = {0: NAN, 2: NAN}
    waiting, found = False, []
    limits = {0: TRAINED.setpoints["sp1"], 2: TRAINED.setpoints["sp2"]}
    for k, what in stream:
        now = what.context
        waiting |= now.recipe != recipe and now.recipe not in {None, *TRAINED.recipes}
        waiting |= now.phase != phase and now.phase not in {None, *TRAINED.phases}
        recipe, phase = now.recipe, now.phase
        for column, (low, high) in limits.items():
            value = what.values[column]
            if value == value:
                waiting |= value != known[column] and not low <= value <= high
                known[column] = value
        if k % stride == 0:
            if waiting:
                found.append(k)
            waiting = False
    return found


@pytest.mark.parametrize("stride", [1, 2, 3, 7])
@pytest.mark.parametrize("seed", range(4))
def test_any_stream_of_many_assets_gives_what_a_loop_gives_whatever_the_cut(seed: int, stride: int) -> None:
    rng = np.random.default_rng([seed, stride])
    assets, total = 4, 80
    streams = [[(k, drawn(rng)) for k in range(100, 100 + total)] for _ in range(assets)]
    for asset in range(assets):  # values and contexts stand for a while, as in a plant
        for at in range(1, total):
            if rng.random() < 0.8:
                streams[asset][at] = (100 + at, streams[asset][at - 1][1])
    expected = [by_loop(stream, stride) for stream in streams]
    assert sum(map(len, expected)) > 20

    made, done = declarations(assets), [0] * assets
    found: list[list[int]] = [[] for _ in range(assets)]
    while min(done) < total:
        take = [min(int(rng.integers(0, 12)), total - at) for at in done]
        pieces = [
            (asset, k, what)
            for asset, (at, count) in enumerate(zip(done, take, strict=True))
            for k, what in streams[asset][at : at + count]
        ]
        slots, contexts = slots_of(pieces)
        flags = made.step(slots, contexts, slots.slot % stride == 0)
        for asset in range(assets):
            found[asset] += slots.slot[flags & (slots.row == asset)].tolist()
        done = [at + count for at, count in zip(done, take, strict=True)]
        restored = declarations(assets)
        for asset in range(assets):
            restored.load(asset, made.dump(asset))
        made = restored
    assert found == expected


def drawn(rng: np.random.Generator) -> Slot:
    def one(*choices: object) -> object:
        return choices[int(rng.integers(len(choices)))]

    return Slot(
        sp1=one(10.0, 12.0, 12.5, 14.0, NAN),  # type: ignore[arg-type]
        sp2=one(0.0, 0.0, -3.0, NAN),  # type: ignore[arg-type]
        recipe=one("A", "B", "C", "D", None),  # type: ignore[arg-type]
        phase=one("heat", "hold", "cool", None),  # type: ignore[arg-type]
    )
