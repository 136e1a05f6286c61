"""The six phase notebooks: put into an experiment folder, restored, run and rendered."""
