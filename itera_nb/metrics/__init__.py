"""Scores: built-in scorers, failure modes, severity weights. Pure functions."""
