"""Denoising autoencoder: the dense one, trained to rebuild windows that it was shown corrupted.

Vincent, Larochelle, Bengio & Manzagol 2008 (ICML). Noise is added, and whole sensors are hidden, so the network
cannot copy and must take each sensor from the others: what they did not let expect stays in the residual. Hiding single
entries, as the paper does, lets a sensor be taken from its own earlier samples, also when all of them are wrong; the
sensor of a step that began some samples ago was then named less often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from msgspec import Meta

from models import dense_autoencoder
from models.autoencoder import AutoencoderSpec, autoencoder, mean_square
from models.hyperparameters import Amount, Searched
from models.scorer import Params, Windows


@dataclass(frozen=True)
class DenoisingAutoencoderSpec(AutoencoderSpec):
    """Hyperparameters; those of the core, and its own.

    Attributes:
        noise: standard deviation of what is added, in z-scores.
        hidden_share: share of the sensors that a training window is shown without, as 0.
    """

    noise: Annotated[Amount, Searched(0.05, 1.0)] = 0.3
    hidden_share: Annotated[float, Meta(ge=0.0, lt=1.0), Searched(0.0, 0.5, linear=True)] = 0.2


def corrupted(values: jax.Array, spec: DenoisingAutoencoderSpec, key: jax.Array) -> jax.Array:
    """Values [B, T, D] with noise added and a share of each window's sensors hidden."""
    key_noise, key_hide = jax.random.split(key)
    noisy = values + spec.noise * jax.random.normal(key_noise, values.shape, values.dtype)
    sensors = (values.shape[0], 1, values.shape[2])
    return jnp.where(jax.random.bernoulli(key_hide, spec.hidden_share, sensors), 0.0, noisy)


def loss(weights: Params, spec: DenoisingAutoencoderSpec, windows: Windows, key: jax.Array) -> jax.Array:
    """Mean square between the windows and what is rebuilt of their corrupted selves."""
    shown = corrupted(windows.values, spec, key)
    return mean_square(dense_autoencoder.rebuild(weights, spec, shown) - windows.values, windows.mask)


KIND = dense_autoencoder.KIND._replace(loss=loss)
SCORER = autoencoder("denoising_autoencoder", DenoisingAutoencoderSpec, KIND)
"""The scorer."""
