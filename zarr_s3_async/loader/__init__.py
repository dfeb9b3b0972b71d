"""Batch loaders: batches of samples from stored arrays, read ahead, for training and similar workloads."""

from .feeds import Window
from .iteration import Epoch
from .loader import BatchLoader
from .report import LoaderCost, LoaderReport

__all__ = ["BatchLoader", "Epoch", "LoaderCost", "LoaderReport", "Window"]
