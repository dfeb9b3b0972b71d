"""Batch loaders: batches of samples from stored arrays, read ahead, for training and everything like it."""

from .loader import BatchLoader, Epoch
from .report import LoaderCost, LoaderReport
from .window import Window

__all__ = ["BatchLoader", "Epoch", "LoaderCost", "LoaderReport", "Window"]
