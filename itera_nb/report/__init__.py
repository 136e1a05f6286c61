"""The conclusion: one page, three charts, all drawn from `data.json` and from nothing else."""
