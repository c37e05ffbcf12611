"""Incidents and what is told of them: their life, identity, words and wire form."""
