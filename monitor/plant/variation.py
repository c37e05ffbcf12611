"""What differs between normal days and normal batches, and the instruments' noise."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from monitor.plant.kinetics import KELVIN, Array
from monitor.plant.recipe import IDLE_TEMPERATURE
from monitor.plant.schedule import (
    PURPOSE_BATCH,
    PURPOSE_FLOW,
    PURPOSE_SENSOR,
    PURPOSE_WEATHER,
    Clock,
    random_stream,
)
from monitor.plant.sensors import SENSORS

CAMPAIGN: Final = 5
"""Batches from one cleaning of the wall to the next."""
FLOW_SPREAD: Final = 0.008
FLOW_MEMORY_S: Final = 60.0
DAY_S: Final = 86400.0


class Weather(NamedTuple):
    """What all reactors share: arrays [N] in K."""

    ambient: Array
    coolant: Array


class Batches(NamedTuple):
    """What differs from batch to batch of one reactor: arrays [K].

    Attributes:
        activity: of the initiator, 1 is nominal.
        fouling: of the wall, m2 K/kW; it grows over a campaign and is then cleaned off.
        padding: nitrogen pressure, bar.
        inhibitor: mass fraction in the monomer.
        start: temperature of vessel and jacket at the batch's start, K.
    """

    activity: Array
    fouling: Array
    padding: Array
    inhibitor: Array
    start: Array


def autoregressive(white: Array, memory: float) -> Array:
    """AR(1) noise of unit variance along the first axis of ``white`` [N, ...], standard normal.

    1 / (1 - a z) is the product of (1 + a^(2^k) z^(2^k)), so log2(N) vectorised passes do, without a loop
    over N.

    Args:
        white: independent draws.
        memory: time constant in rows.
    """
    decay = float(np.exp(-1.0 / memory)) if memory > 0.0 else 0.0
    noise = white * np.sqrt(1.0 - decay**2)
    noise[0] = white[0]
    shift = 1
    while shift < len(noise) and decay > 1e-17:
        noise[shift:] += decay * noise[:-shift]
        shift, decay = 2 * shift, decay * decay
    return noise


def weather(seed: int, clock: Clock) -> Weather:
    """Air and cooling water: a daily cycle, slow weather, and a cooling tower that follows both in part."""
    random = random_stream(seed, PURPOSE_WEATHER)
    white = random.standard_normal((clock.rows, 2))
    day = np.sin(2.0 * np.pi * np.arange(clock.rows) * clock.sampling_s / DAY_S)
    air = 3.0 * day + 1.5 * autoregressive(white[:, 0], 12.0 * 3600.0 / clock.sampling_s)
    tower = 0.3 * air + 0.6 * autoregressive(white[:, 1], 3.0 * 3600.0 / clock.sampling_s)
    return Weather(KELVIN + 20.0 + air, KELVIN + 22.0 + tower)


def batches(seed: int, asset: int, count: int) -> Batches:
    """The first ``count`` batches of a reactor."""
    draws = random_stream(seed, PURPOSE_BATCH, asset).standard_normal((count, 5)).clip(-2.5, 2.5)
    since_cleaning = (np.arange(count) + asset) % CAMPAIGN
    return Batches(
        activity=1.0 + 0.05 * draws[:, 0],
        fouling=0.05 + 0.025 * since_cleaning + 0.008 * draws[:, 1],
        padding=1.2 + 0.012 * draws[:, 2],
        inhibitor=5e-6 * (1.0 + 0.3 * draws[:, 3]),
        start=KELVIN + IDLE_TEMPERATURE + 0.3 * draws[:, 4],
    )


def flow_factors(seed: int, asset: int, clock: Clock) -> Array:
    """Factor [N] by which a reactor's monomer feed departs from what the recipe asks for."""
    white = random_stream(seed, PURPOSE_FLOW, asset).standard_normal(clock.rows)
    return 1.0 + FLOW_SPREAD * autoregressive(white, FLOW_MEMORY_S / clock.sampling_s)


def sensor_noise(seed: int, asset: int, clock: Clock) -> Array:
    """Noise [N, D] of a reactor's instruments, in their units; thermometers share a part of theirs."""
    white = random_stream(seed, PURPOSE_SENSOR, asset).standard_normal((clock.rows, len(SENSORS) + 1))
    shared = autoregressive(white[:, -1], 60.0 / clock.sampling_s)
    noise = np.zeros((clock.rows, len(SENSORS)))
    for column, sensor in enumerate(SENSORS):
        if sensor.noise > 0.0:
            own = autoregressive(white[:, column], sensor.memory_s / clock.sampling_s)
            noise[:, column] = sensor.noise * own + sensor.shared * shared
    return noise
