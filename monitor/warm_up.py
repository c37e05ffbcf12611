"""How much of the stream a monitor must see before it judges as one that has always run does, nearly.

A window and its smoothing, the sensors' ages, the delays of incidents: what is older than this has left windows and
averages. What goes back further (limits that have moved, incidents that are open, the drift detectors) is not rebuilt
by a rewind.
"""

from __future__ import annotations

from math import ceil

from monitor.settings import AssetClass, Settings

_AVERAGES = 5.0
"""Time constants after which an exponential average has forgotten (to e^-5, 0.7 %) where it began."""


def warm_up_ns(settings: Settings) -> int:
    """The longest warm-up of all asset classes, ns of event time."""
    return max((_of(asset_class) for asset_class in settings.asset_classes.values()), default=0)


def _of(asset_class: AssetClass) -> int:
    window, alerting, time = asset_class.window, asset_class.alerting, asset_class.time
    windows = ceil(_AVERAGES / asset_class.scoring.smoothing)
    slots = 2 * window.length + windows * window.stride
    delays = max(alerting.on_delay, alerting.fault_on_delay) + max(
        alerting.off_delay, alerting.fault_off_delay
    )
    return slots * int(asset_class.sampling) + int(time.lateness) + int(time.max_age) + int(delays)
