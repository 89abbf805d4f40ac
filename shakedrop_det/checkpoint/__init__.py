"""Checkpoints: saving and loading."""

from .checkpointer import Checkpointer
from .fold import fold

__all__ = ["Checkpointer", "fold"]
