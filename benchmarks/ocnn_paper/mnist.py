"""MNIST digits, one of them normal: what is learnt from and what is judged, under the paper's protocol and Deep SVDD's.

transductive  the paper's: five sixths of the digit's training images and all of its test images, and 1 % as many
              training images of other digits; what is learnt from is judged
pixels        the same images as they are: the paper's code normalises copies, and goes on with the originals
held_back     the same, but the last tenth is judged only. All anomalies are in it: what the paper's code does to its
              autoencoders by ``validation_split`` (docs/ocnn-paper.md)
one_class     Deep SVDD's (Ruff et al. 2018): the digit's training images; the 10,000 test images are judged
development   as one_class, inside the training images: every sixth is judged. For choosing hyperparameters

Images are brought to a mean of 0 and a mean absolute value of 1 (global contrast normalisation by the L1 norm) where
the protocol does not leave them as they are, then scaled so that what is learnt from spans [0, 1].
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

SIDE: Final = 28
DIGITS: Final = tuple(range(10))
PROTOCOLS: Final = ("transductive", "pixels", "held_back", "one_class", "development")
DRAWN: Final = ("transductive", "pixels", "held_back")
"""The paper's protocol and its variants: which images are used depends on the seed."""
_PLAIN: Final = ("pixels", "held_back")
ANOMALOUS: Final = 0.01
"""Anomalies per normal image under the transductive protocol, known to those methods that ask for a share."""
_EVERY: Final = 6
_KEPT: Final = 5 / 6
_LEARNT: Final = 0.9

Images = NDArray[np.float32]


class Trial(NamedTuple):
    """One digit as normal.

    Attributes:
        learn: [N, 784].
        judge: [M, 784].
        anomalous: [M] bool, True for another digit.
        learnt: the first so many of ``judge`` are the first of ``learn``.
    """

    learn: Images
    judge: Images
    anomalous: NDArray[np.bool_]
    learnt: int = 0


class Digits(NamedTuple):
    """Images [N, 784] as a protocol has them, but for the scale, and digits [N]."""

    train: Images
    train_digits: NDArray[np.uint8]
    test: Images
    test_digits: NDArray[np.uint8]


def default_file() -> Path:
    """``$NUWATCH_DATA/mnist/mnist.npz``."""
    return Path(os.environ.get("NUWATCH_DATA", "data")) / "mnist" / "mnist.npz"


@functools.lru_cache(maxsize=1)
def read(file: Path, protocol: str) -> Digits:
    """The file's digits.

    Args:
        file: an npz of x_train, y_train, x_test and y_test, uint8.
        protocol: one of `PROTOCOLS`.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"MNIST: got no file {file}, expected an npz of x_train, y_train, x_test and y_test; "
            "hint: set NUWATCH_DATA to the folder that holds mnist/mnist.npz"
        )
    rows = plain if protocol in _PLAIN else normalised
    with np.load(file, allow_pickle=False) as parts:
        return Digits(rows(parts["x_train"]), parts["y_train"], rows(parts["x_test"]), parts["y_test"])


def plain(images: NDArray[np.uint8]) -> Images:
    """Images [N, ..] as rows in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255.0)


def normalised(images: NDArray[np.uint8]) -> Images:
    """Images [N, ..] as rows of mean 0 and mean absolute value 1."""
    rows = plain(images)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.abs(rows).mean(axis=1, keepdims=True), np.float32(1e-8))


def trial(digits: Digits, protocol: str, normal: int, seed: int) -> Trial:
    """What is learnt and judged.

    Args:
        digits: all of them.
        protocol: one of `PROTOCOLS`.
        normal: the digit that is normal.
        seed: which images are drawn; used under the paper's protocol and its variants only.
    """
    if protocol in ("transductive", "pixels"):
        rows, anomalous, order = _drawn(digits, normal, seed)
        return _scaled(rows[order], None, anomalous[order])
    if protocol == "held_back":
        rows, anomalous, _ = _drawn(digits, normal, seed)
        learnt = int(_LEARNT * len(rows))
        return _scaled(rows[:learnt], rows, anomalous)._replace(learnt=learnt)
    if protocol == "one_class":
        learn = digits.train[digits.train_digits == normal]
        return _scaled(learn, digits.test, digits.test_digits != normal)
    if protocol == "development":
        held = np.arange(len(digits.train)) % _EVERY == 0
        learn = digits.train[~held & (digits.train_digits == normal)]
        return _scaled(learn, digits.train[held], digits.train_digits[held] != normal)
    raise ValueError(f"protocol: got {protocol!r}, expected one of {', '.join(PROTOCOLS)}")


def _drawn(digits: Digits, normal: int, seed: int) -> tuple[Images, NDArray[np.bool_], NDArray[np.integer]]:
    """Images with the anomalies last, which of them are anomalous, and an order in which they are not."""
    rng = np.random.default_rng([normal, seed])
    own = rng.permutation(np.flatnonzero(digits.train_digits == normal))
    own = own[: int(_KEPT * len(own))]
    normals = np.concatenate([digits.train[own], digits.test[digits.test_digits == normal]])
    others = np.flatnonzero(digits.train_digits != normal)
    drawn = rng.choice(others, int(ANOMALOUS * len(normals)), replace=False)
    rows = np.concatenate([normals, digits.train[drawn]])
    anomalous = np.arange(len(rows)) >= len(normals)
    return rows, anomalous, rng.permutation(len(rows))


def _scaled(learn: Images, judge: Images | None, anomalous: NDArray[np.bool_]) -> Trial:
    low, high = learn.min(), learn.max()
    learn = (learn - low) / (high - low)
    if judge is None:
        return Trial(learn, learn, anomalous, len(learn))
    return Trial(learn, (judge - low) / (high - low), anomalous)


def auc(scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> float:
    """Area under the ROC: how often an anomaly's score is higher than a normal one's, ties counted half.

    Raises:
        ValueError: a score is not finite.
    """
    from scipy.stats import rankdata

    if not np.isfinite(scores).all():
        raise ValueError(f"auc: got {np.count_nonzero(~np.isfinite(scores))} scores that are not finite")
    wrong = int(anomalous.sum())
    above = rankdata(scores)[anomalous].sum() - wrong * (wrong + 1) / 2
    return float(above / (wrong * (len(scores) - wrong)))
