"""Models: prompts, vendors, prices."""
