"""Analysis of a config: its training images, and the cost and ShakeDrop of its network."""

from .blocks import block_rows, block_table, draw_blocks
from .complexity import (
    Complexity,
    build_for_counting,
    example_input,
)
from .training_images import draw_training_images

__all__ = [
    "Complexity",
    "block_rows",
    "block_table",
    "build_for_counting",
    "draw_blocks",
    "draw_training_images",
    "example_input",
]
