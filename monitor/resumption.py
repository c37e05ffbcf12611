"""Where in its input a restored partition goes on, and what of its journal has acted already.

A position means something only in the input that it was counted in. A topic that was deleted and made anew under the
same name counts from its beginning again: known by its incarnation, not by its length.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from connectors.records import Input
from monitor.checkpoint import Entry, Marker
from monitor.errors import ConfigurationError


def made_anew(marker: Marker, found: Input) -> bool:
    """Whether the input that is found now is another one, under the name of the one that the marker is of."""
    stored = marker.input
    return (
        stored is not None
        and bool(stored.incarnation and found.incarnation)
        and stored.incarnation != found.incarnation
    )


def resumed_at(partition: int, marker: Marker, found: Input) -> int:
    """Where to go on: at the stored position, or at the beginning of an input that was made anew.

    Raises:
        ConfigurationError: the state is of another input, or of other partitions of it.
    """
    stored = marker.input
    if stored is None:
        return marker.position
    if stored.name != found.name:
        raise ConfigurationError(
            f"partition {partition}: got state of input '{stored.name}', expected '{found.name}'; "
            "hint: give every input a state folder of its own"
        )
    if stored.partitions and found.partitions and stored.partitions != found.partitions:
        raise ConfigurationError(
            f"topic '{found.name}' has {found.partitions} partitions, and had {stored.partitions} when the state "
            "was written: its producers may send an asset to another partition now, which would split the asset's "
            "windows; hint: once the new layout is settled, start with an empty state folder; windows begin anew"
        )
    return 0 if made_anew(marker, found) else marker.position


def remembered(journal: Sequence[Entry], forgotten: int) -> Sequence[Entry]:
    """The journal as it applies to the input that is there now.

    What acted in an input that was made anew since, its first ``forgotten`` entries, stands in front of everything that
    can come.
    """
    acted = (msgspec.structs.replace(entry, position=-1) for entry in journal[:forgotten])
    return [*acted, *journal[forgotten:]]
