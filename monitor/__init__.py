"""nuwatch: real-time anomaly monitor for process plants. The application."""

__version__ = "0.1.0"
