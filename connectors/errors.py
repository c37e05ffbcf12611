"""Errors of the outside world.

ConnectorError
├── SourceError        the source cannot go on (authorisation, lost metadata, network for too long)
│   ├── OffsetGone     the wanted offset is not in the topic, and cannot be of it
│   └── PartitionsChanged   the input has other partitions than when it was opened
├── SinkError          a record could not be published
│   └── Aborted        a transaction was: nothing of it counts, and what it would have made durable must be redone
└── SettingsError      a connector's settings contradict themselves or the outside
"""

from __future__ import annotations


class ConnectorError(Exception):
    """Base of every error of a connector; its text says what, where, got, expected, and ``hint:``."""


class SourceError(ConnectorError):
    """The source cannot go on."""


class OffsetGone(SourceError):  # noqa: N818 - names what happened
    """The wanted offset is behind what the topic holds: it is not of this topic, or the broker has lost records.

    Attributes:
        partition: the partition.
        wanted: the offset that was asked for.
        earliest: the first offset still there.
        latest: the offset after the last record.
    """

    def __init__(self, partition: int, wanted: int, earliest: int, latest: int) -> None:
        super().__init__(
            f"partition {partition}: offset {wanted} is not in the topic, which holds {earliest} to {latest}"
        )
        self.partition, self.wanted, self.earliest, self.latest = partition, wanted, earliest, latest


class PartitionsChanged(SourceError):  # noqa: N818 - names what happened
    """The input has other partitions than when it was opened: keys may have moved between them."""


class SinkError(ConnectorError):
    """A record could not be published."""


class Aborted(SinkError):  # noqa: N818 - names what happened
    """A transaction was aborted, or may have been: the partitions' durable state must be read again.

    The usual cause is that another member of the group has the partitions now.
    """


class SettingsError(ConnectorError, ValueError):
    """A connector's settings contradict themselves or the outside.

    A `ValueError` too, so that msgspec adds the setting's path when one is raised while it decodes settings.
    """
