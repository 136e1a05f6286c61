"""The verdict: the registered rule, its record, and the isolated process that opens the test set."""
