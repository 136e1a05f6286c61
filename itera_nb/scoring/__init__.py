"""Scoring: attempts, workers, the engine and its results."""
