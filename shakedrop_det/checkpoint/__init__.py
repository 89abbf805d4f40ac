"""Checkpoints: saving and loading."""

from .checkpointer import Checkpointer

__all__ = ["Checkpointer"]
