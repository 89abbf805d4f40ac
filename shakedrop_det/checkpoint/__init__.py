"""Saving and loading checkpoints."""

from .checkpointer import Checkpointer

__all__ = ["Checkpointer"]
