"""Batch loaders: batches of samples from stored arrays, read ahead, for training and everything like it."""

from .cost import LoaderCost
from .iteration import Epoch
from .loader import BatchLoader
from .report import LoaderReport
from .window import Window

__all__ = ["BatchLoader", "Epoch", "LoaderCost", "LoaderReport", "Window"]
