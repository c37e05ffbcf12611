"""The temperature control of each reactor: a PI cascade, as in nearly every jacketed reactor.

The outer controller reads the contents' temperature and sets the jacket's; the inner one reads the jacket's
inlet and moves the split-range valve. The cascade is why a fault in the cooling shows in the jacket and in
the valve, and hardly in the temperature.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

OUTER_GAIN: Final = 4.0  # K/K
OUTER_RESET_S: Final = 300.0
INNER_GAIN: Final = 6.0  # %/K
INNER_RESET_S: Final = 150.0
FILTER_S: Final = 30.0  # of the measured temperature
JACKET_LIMITS: Final = (5.0, 130.0)  # Cel


class Cascade(NamedTuple):
    """State of the two controllers: arrays [C].

    Attributes:
        filtered: the measured temperature after its filter, Cel.
        outer: integral of the outer controller, K.
        inner: integral of the inner controller, %.
    """

    filtered: Array
    outer: Array
    inner: Array


def resting(temperature: Array) -> Cascade:
    """Controllers at rest around a temperature [C] in Cel."""
    return Cascade(temperature.copy(), np.zeros_like(temperature), np.zeros_like(temperature))


def preset(cascade: Cascade, begun: NDArray[np.bool_]) -> Cascade:
    """Forgets the outer integral where a phase has begun [C]: it belongs to the last phase's heat load."""
    return cascade._replace(outer=np.where(begun, 0.0, cascade.outer))


def control(
    cascade: Cascade,
    measured: Array,
    jacket: Array,
    setpoint: Array,
    automatic: NDArray[np.bool_],
    step: float,
) -> tuple[Cascade, Array]:
    """One scan of the controllers.

    Args:
        cascade: their state.
        measured: [C] temperature of the contents, Cel.
        jacket: [C] temperature at the jacket's inlet, Cel.
        setpoint: [C] of the contents' temperature, Cel.
        automatic: [C] True: cascade; False: the jacket itself is held at the set-point.
        step: seconds until the next scan.

    Returns:
        The state after the scan, and the valve position [C] in %. Integrals stand still at their limits.
    """
    filtered = cascade.filtered + (measured - cascade.filtered) * (1.0 - np.exp(-step / FILTER_S))
    error = setpoint - filtered
    wanted = np.where(automatic, setpoint + OUTER_GAIN * error + cascade.outer, setpoint)
    jacket_setpoint = np.clip(wanted, *JACKET_LIMITS)
    jacket_error = jacket - jacket_setpoint
    position = 50.0 + INNER_GAIN * jacket_error + cascade.inner
    valve = np.clip(position, 0.0, 100.0)
    free = valve == position
    outer = cascade.outer + OUTER_GAIN * error * step / OUTER_RESET_S * (free & (jacket_setpoint == wanted))
    inner = cascade.inner + INNER_GAIN * jacket_error * step / INNER_RESET_S * free
    return Cascade(filtered, np.where(automatic, outer, 0.0), inner), valve
