"""Scheduling: the only package that creates tasks or threads."""
