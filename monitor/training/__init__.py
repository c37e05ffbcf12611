"""From known-good history to a bundle."""

from monitor.training.history import TrainingRefused
from monitor.training.progress import TrainingProgress
from monitor.training.train import Trained, configuration_hash, train

__all__ = ["Trained", "TrainingProgress", "TrainingRefused", "configuration_hash", "train"]
