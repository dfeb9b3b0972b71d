"""Checks of the promises of `stores/base.py`, one independent check per promise, grouped by subject."""
