"""The parts of the event-time grid, each with its own state per asset; `monitor.event_time.grid` puts them together."""
