"""The events that log lines are made of: a bounded vocabulary, so that lines can be counted and alarmed on.

What varies stands in a line's other fields. docs/operations.md shows this table; a test compares it with every call.
"""

from __future__ import annotations

CODES: dict[str, str] = {
    "started": "state is restored and the source is positioned",
    "pages": "where the daemon's pages are served",
    "snapshot": "what one snapshot made durable: seconds, lag, and counts since the last one (with --verbose)",
    "watching": "every minute: lag, and all counts so far",
    "stopped": "the end, with all counts",
    "alert": "an alert was handed to the sink",
    "decision_wanted": "a person has to decide about a threshold",
    "threshold_set": "a new threshold version is in force",
    "re_estimation_refused": "a re-estimation or a command was not carried out, and why",
    "drift_detected": "normal scores have moved",
    "recentred": "the centre that a sensor is judged against has moved",
    "drift_detector_reset": "a drift detector of another version began anew",
    "records_lost": "input records were gone before they were read",
    "records_corrupt": "input records could not be unpacked, twice; they were passed and dead-lettered",
    "state_of_another_bundle_discarded": "a partition goes on with new windows and trained limits",
    "configuration_adopted": "a changed configuration or bundle acts, from the given positions on",
    "configuration_refused": "a changed configuration is wrong or needs a restart: the old one stays",
    "configuration_waits": "a changed configuration is ready, and what came before it is not durable yet",
    "command_refused": "a record of the control topic is no command, or cannot be carried out; it is answered",
    "commands_not_read": "the control topic does not answer or refuses; it is tried again",
    "state_damaged_rebuilding": "a partition's state was set aside and is rebuilt from the source, outside the promise",
    "partition_begun": "of several daemons, this one begins a partition without stored state",
    "partition_taken": "it goes on with a partition's state",
    "partitions_given": "it made partitions durable, and another goes on",
    "partitions_given_unfinished": "that failed: another repeats what followed the last checkpoint",
    "partitions_lost": "it was not heard in time; it forgets them and writes nothing",
    "transaction_aborted": "a checkpoint did not count; what is held is restored and folded again",
    "reading_failed": "the source does not answer or refuses; it is tried again",
    "positions_not_written": "the consumer group was not told; lag monitors see an old position",
    "reconnected": "the source stood still with records behind it",
    "sink_refuses": "a snapshot waits, because something published is not acknowledged",
    "state_not_written": "a snapshot waits, because the state cannot be written",
    "snapshot_caught_up": "a snapshot that had waited is durable",
    "input_paused": "the outbox is at its bound",
    "input_resumed": "the outbox is taken again",
    "scores_not_finite": "windows of an asset got scores that are not numbers; they are not judged",
    "recompiled": "a scorer was compiled again while running; a defect",
    "device_failed": "scoring failed on the device; it is tried again",
    "health_raised": "a condition of the monitor itself was raised",
    "health_cleared": "it is over",
    "pages_unavailable": "the pages' port cannot be used; the daemon goes on without them",
    "stuck": "the loop has not come round for `health.stuck`: the process ends",
    "failed": "the daemon ends with this exit code, because of this error",
    "library": "a warning of a library, with its logger's name",
}
"""Meaning by event."""
