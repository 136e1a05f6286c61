"""The sealed test set: its cipher, who holds the key, and the last ledger head seen outside the folder."""
