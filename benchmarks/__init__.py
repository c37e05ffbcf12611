"""How fast nuwatch is, beside what else could do the same; each module is one question."""
