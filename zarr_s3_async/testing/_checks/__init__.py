"""The promises of `stores/base.py`, one independent check each, sorted by what they are about."""
