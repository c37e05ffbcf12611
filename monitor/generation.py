"""What judges: a configuration with its bundles, as the engine takes it into force.

The engine knows a generation by the hash of its configuration and the ids of its bundles. Its description goes into the
journal of every partition with the offset before which it begins to act, so that a replay can take it up at the same
places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from monitor.pipeline import Pipeline


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A configuration that is in force from a place in the stream on, as it is journalled.

    Attributes:
        configuration: hash of its text.
        text: of the YAML file, whole.
        bundles: bundle id by asset class.
    """

    configuration: str
    text: str
    bundles: dict[str, str]

    @property
    def id(self) -> str:
        """One name for the same configuration with the same bundles."""
        bundles = ",".join(f"{name}={bundle[:16]}" for name, bundle in sorted(self.bundles.items()))
        return f"configuration:{self.configuration[:16]}:{bundles}"


class Generation(NamedTuple):
    """A change that is ready to act.

    Attributes:
        change: what it is.
        pipeline_of: makes the empty pipeline of a partition.
    """

    change: Change
    pipeline_of: Callable[[int], Pipeline]

    @property
    def bundles(self) -> Mapping[str, str]:
        """Bundle id by asset class."""
        return self.change.bundles
