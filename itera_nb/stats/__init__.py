"""Statistics of the verdict: pure functions from arrays to frozen dataclasses.

Import the modules directly (`from itera_nb.stats.paired import paired_delta`); nothing is imported here, so
that `import itera_nb` loads neither numpy nor scipy. All effects are fractions in [-1, 1] (0.05 = 5
percentage points), arm minus baseline.
"""
