"""From a source of rows to train, dev and a sealed test set; runs whole only in the isolated process."""
