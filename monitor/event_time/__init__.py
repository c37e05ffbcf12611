"""The parts of the event-time grid, each with its own state per asset; `monitor.grid` puts them together."""
