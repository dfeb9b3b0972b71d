"""Batch loaders: batches of samples from stored arrays, read ahead, for training and everything like it."""

from .loader import BatchLoader, Epoch
from .report import LoaderReport
from .window import Window

__all__ = ["BatchLoader", "Epoch", "LoaderReport", "Window"]
