"""Data sets, mappers and loaders. Importing it registers the built-in data sets."""

from .builtin import register_builtin_datasets, register_digit_scenes
from .digit_rendering import DIGIT_CLASSES, digit_split
from .digit_scenes import build_digit_scenes, prepare_digit_scenes
from .digits import load_single_digits
from .image_folder import load_image_folder, register_image_folder

__all__ = [
    "DIGIT_CLASSES",
    "build_digit_scenes",
    "digit_split",
    "load_image_folder",
    "load_single_digits",
    "prepare_digit_scenes",
    "register_builtin_datasets",
    "register_digit_scenes",
    "register_image_folder",
]
