"""Bundles with random parameters of any size: for what does not depend on training."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from models.bundle import Bundle, TrainedScorer
from models.imputation import Imputation
from models.lstm_autoencoder import LstmAutoencoderSpec
from models.ocnn import OcnnSpec
from models.pca import PcaSpec
from models.scaling import Scaling
from models.var import VarSpec


def random_bundle(sensors: int, length: int, hidden: int, block: int, seed: int = 3) -> Bundle:
    """All built-in scorers with random parameters."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int):
        return jnp.asarray(rng.normal(size=shape) * 0.1, jnp.float32)

    factor = draw(sensors, sensors)
    precision = factor @ factor.T + jnp.eye(sensors, dtype=jnp.float32)
    autoencoder = {
        "weights": {
            "encoder": draw(4 * hidden, hidden + sensors + 1),
            "decoder_state": draw(4 * hidden, hidden),
            "decoder_code": draw(4 * hidden, hidden + 1),
            "output": draw(sensors, hidden + 1),
            "forecast": draw(sensors, hidden),
        },
        "forecast": draw(3 * sensors, sensors),
        "precision": precision,
        "slow_precision": precision,
        "share": jnp.float32(1.0),
    }
    features = 2 * sensors
    head = {
        "w": 1.0 + draw(features),
        "v": jnp.eye(features, dtype=jnp.float32) + 0.1 * draw(features, features),
        "r": jnp.float32(0.1),
        "scale": jnp.float32(1.1),
    }
    ocnn = autoencoder | {"root": precision, "slow_root": precision} | head
    pca = {"index": precision, "model": 0.1 * precision, "mean": jnp.float32(sensors)}
    var = {"forecast": draw(VarSpec().order * sensors, sensors), "precision": precision}
    return Bundle(
        sensors=tuple(f"s{index}" for index in range(sensors)),
        length=length,
        block=block,
        scaling=Scaling(rng.normal(size=sensors), 1.0 + rng.random(sensors)),
        imputation=Imputation(precision),
        scorers=(
            TrainedScorer("lstm_autoencoder", LstmAutoencoderSpec(hidden=hidden), autoencoder),
            TrainedScorer("ocnn", OcnnSpec(hidden=hidden), ocnn),
            TrainedScorer("pca", PcaSpec(), pca),
            TrainedScorer("var", VarSpec(), var),
        ),
        calibration={"threshold": np.array([1.5, 2.5]), "scores": np.arange(12.0).reshape(6, 2)},
        fields={"units": ["Cel"] * sensors, "trained_to": "2026-11-01T00:00:00Z"},
    )
