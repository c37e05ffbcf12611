"""What people read after a replay or a training: self-contained HTML pages, and tables for a terminal."""

from monitor.report.replay import ReplayMeta, replay_report
from monitor.report.text import comparison_table, text_table
from monitor.report.training import SensorRow, TrainingMeta, training_report

__all__ = [
    "ReplayMeta",
    "SensorRow",
    "TrainingMeta",
    "comparison_table",
    "replay_report",
    "text_table",
    "training_report",
]
