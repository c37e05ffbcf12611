"""Judging a replay: labels, causal figures, planted against found."""
