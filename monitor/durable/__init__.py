"""Durable state in one SQLite file: seals, the file, its formats, and the `Checkpoint` that keeps its state there."""
