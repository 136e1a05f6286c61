"""Widgets of the notebooks, each with a static twin for saved, printed and headless ones."""
