"""A look inside: what each scorer makes of windows before it judges them, laid out in two dimensions.

Shown are held-out windows of the history and, beside them, windows of recordings that taught nothing, such as ones with
faults, by each scorer's features of them (`models.scorer.Scorer.features_of`, `monitor.training.layout`).

Shape letters: n windows, T samples, D sensors, W windows to choose from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from connectors.records import Batch
from models.bundle import Bundle
from monitor.evaluation.labels import HELD_OUT, UNLABELLED, WORDS, Label, Labels
from monitor.model import Model
from monitor.settings import AssetClass
from monitor.training.feedback import Manner
from monitor.training.history import Normal, Rows, TrainingRefused, collect, windows_of
from monitor.training.layout import Layout, laid_out
from monitor.training.progress import TrainingProgress
from monitor.training.recorded import Recorded, final_ratios, recorded, scaled_by, weights_of
from monitor.training.scores import Scored

MOST = 600
"""Windows that are shown of the history, and as many of what is beside it: t-SNE takes seconds for so many."""
_FEWEST = 12

Floats = NDArray[np.float64]


class Look(NamedTuple):
    """What a person wants to see of a training.

    Attributes:
        labels: of history and recordings; they colour, and teach nothing.
        beside: recordings that are shown and teach nothing, in stream order.
    """

    labels: Labels = UNLABELLED
    beside: Sequence[Batch] = ()


class Embedding(Struct, frozen=True, kw_only=True):
    """Windows as scorers see them, and what to colour them by.

    Attributes:
        layouts: of each scorer.
        end: [n] ns since the epoch.
        ratio: [n] combined, smoothed ratio; 1 is the limit.
        asset: [n] names.
        recipe: [n] empty without one.
        phase: [n] likewise.
        label: [n] what is known of each; empty where nobody asked.
        held_out: how many of n are held-out windows of the history; the others are beside it.
        of: how many there were to show, held out and beside.
    """

    layouts: tuple[Layout, ...]
    end: NDArray[np.int64]
    ratio: Floats
    asset: tuple[str, ...]
    recipe: tuple[str, ...]
    phase: tuple[str, ...]
    label: tuple[str, ...]
    held_out: int
    of: tuple[int, int]


class _Sample(NamedTuple):
    """Some windows, sorted by asset and time.

    Attributes:
        rows: what they are windows of.
        values: [n, T, D] z-scores.
        mask: [n, T, D].
        closing: [n] slots that they end with.
        ratio: [n].
        of: how many they were drawn from.
    """

    rows: Rows
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    closing: NDArray[np.int64]
    ratio: Floats
    of: int

    @property
    def end(self) -> NDArray[np.int64]:
        return self.rows.slots.end[self.closing]

    @property
    def asset(self) -> tuple[str, ...]:
        return tuple(self.rows.assets[row] for row in self.rows.slots.row[self.closing])

    def context(self, name: str) -> tuple[str, ...]:
        """A word of the windows' batch contexts, empty without one."""
        contexts = [self.rows.contexts[c] for c in self.rows.slots.context[self.closing]]
        return tuple(getattr(context, name) or "" for context in contexts)


def embed(
    asset_class: AssetClass,
    bundle: Bundle,
    history: tuple[Rows, Normal],
    held: tuple[Scored, Floats],
    look: Look,
    told: TrainingProgress,
) -> Embedding | None:
    """Lay out windows as the scorers of a bundle see them.

    Args:
        asset_class: its settings.
        bundle: with the scorers.
        history: known-good rows, and they as the bundle scales them.
        held: windows of it that set the limit, and their final ratios.
        look: what is asked.
        told: of stages.

    Returns:
        None where there are too few windows.
    """
    told.stage("looking inside")
    windows, ratio = held
    samples = [_drawn(asset_class, *history, windows.closing, ratio, _evenly(len(ratio), MOST))]
    samples += _beside(asset_class, bundle, look, told)
    if sum(len(one.closing) for one in samples) < _FEWEST:
        return None
    values, mask = (np.concatenate(part) for part in zip(*((s.values, s.mask) for s in samples), strict=True))
    layouts: list[Layout] = []
    for trained in bundle.scorers:
        layouts.append(laid_out(bundle.imputation, trained, values, mask, asset_class.scoring.seed))
        told.step(len(layouts), len(bundle.scorers), {})
    return Embedding(
        layouts=tuple(layouts),
        end=np.concatenate([one.end for one in samples]),
        ratio=np.concatenate([one.ratio for one in samples]),
        asset=sum((one.asset for one in samples), ()),
        recipe=sum((one.context("recipe") for one in samples), ()),
        phase=sum((one.context("phase") for one in samples), ()),
        label=sum((_words(look, one, place == 0) for place, one in enumerate(samples)), ()),
        held_out=len(samples[0].closing),
        of=(samples[0].of, sum(one.of for one in samples[1:])),
    )


def unseen_text(look: Look, embedding: Embedding | None) -> list[str]:
    """What of the look could not be had, for people."""
    if not look.beside or (embedding is not None and embedding.of[1]):
        return []
    return [
        "the look inside shows nothing beside the history: none of those recordings has a window to score"
    ]


def _beside(asset_class: AssetClass, bundle: Bundle, look: Look, told: TrainingProgress) -> list[_Sample]:
    """The recordings beside the history, scored by the bundle; none where there is nothing to score."""
    if not look.beside:
        return []
    model = Model(bundle, asset_class)
    try:
        rows = collect(asset_class, look.beside, model.stuck_slots)
        found = recorded(asset_class, model, rows, told)
    except TrainingRefused:
        return []
    scoring = asset_class.scoring
    manner = Manner(scoring.combine, scoring.smoothing, model.nu, prior=1.0)
    ratio = final_ratios(found, model.scales, weights_of(model), manner)
    chosen = _chosen(look.labels, found)
    return [_drawn(asset_class, rows, scaled_by(asset_class, model, rows), found.closing, ratio, chosen)]


def _chosen(labels: Labels, found: Recorded) -> NDArray[np.int64]:
    """Places of the windows to show: of labelled faults half of them, where there are such; faults are short."""
    assets = dict.fromkeys(found.asset.tolist())
    codes = np.concatenate([labels.of(asset, found.end[found.asset == asset]) for asset in assets])
    faulty, others = np.flatnonzero(codes == Label.ANOMALOUS), np.flatnonzero(codes != Label.ANOMALOUS)
    if not (len(faulty) and len(others)):
        return _evenly(len(codes), MOST)
    parts = [kind[_evenly(len(kind), MOST // 2)] for kind in (faulty, others)]
    return np.sort(np.concatenate(parts))


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most so many places, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def _drawn(
    asset_class: AssetClass,
    rows: Rows,
    normal: Normal,
    closing: NDArray[np.int64],
    ratio: Floats,
    chosen: NDArray[np.int64],
) -> _Sample:
    """The chosen ones [n] of the windows that end with the slots ``closing`` [W], sorted by asset and time."""
    wanted = closing[chosen]
    parts: list[tuple[NDArray[Any], ...]] = []
    for chunk in windows_of(asset_class, rows, normal):
        kept = np.isin(chunk.closing, wanted)
        parts.append((chunk.values[kept], chunk.mask[kept], chunk.closing[kept]))
    values, mask, ends = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Sample(rows, values, mask, ends, ratio[chosen][np.searchsorted(wanted, ends)], len(closing))


def _words(look: Look, sample: _Sample, held_out: bool) -> tuple[str, ...]:
    """What is known of each window, in a word; empty where nobody asked."""
    if look.labels == UNLABELLED and not look.beside:
        return ("",) * len(sample.closing)
    assets = np.array(sample.asset, np.str_)
    words = [
        word
        for asset in dict.fromkeys(sample.asset)
        for word in _named(look.labels, asset, sample.end[assets == asset])
    ]
    calm = (WORDS[Label.NORMAL], WORDS[Label.UNKNOWN]) if held_out and look.beside else ()
    return tuple(HELD_OUT if word in calm else word for word in words)


def _named(labels: Labels, asset: str, ends: NDArray[np.int64]) -> list[str]:
    """What windows of an asset are called that end at ``ends``; of faults at one time the earliest names it."""
    words = [WORDS[Label(code)] for code in labels.of(asset, ends).tolist()]
    for fault in reversed(labels.faults_of(asset)):
        inside = np.flatnonzero((ends >= fault.start_ns) & (ends <= fault.end_ns))
        for place in inside.tolist():
            words[place] = fault.name or WORDS[Label.ANOMALOUS]
    return words
