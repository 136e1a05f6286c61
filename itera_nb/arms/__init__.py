"""Arms: what they are made of, what they return, and how they are frozen."""
