"""Datasets, mappers and loaders. Importing this package registers the built-in datasets."""

from .builtin import register_builtin_datasets, register_digit_scenes
from .checks import check_dataset
from .cifar import register_cifar
from .classes import num_classes
from .classification_mapper import ClassificationMapper
from .coco_files import register_coco_files, use_coco_files
from .detection_mapper import DetectionMapper
from .digit_rendering import DIGIT_CLASSES, digit_split
from .digit_scenes import build_digit_scenes, prepare_digit_scenes
from .digits import load_single_digits
from .folders_in_config import register_image_folders, use_image_folders
from .image_datasets import ImageArrays, ImageFiles
from .image_folder import load_image_folder, register_image_folder
from .loaders import build_classification_test_loader, build_classification_train_loader

__all__ = [
    "ClassificationMapper",
    "DIGIT_CLASSES",
    "DetectionMapper",
    "ImageArrays",
    "ImageFiles",
    "build_classification_test_loader",
    "build_classification_train_loader",
    "build_digit_scenes",
    "check_dataset",
    "digit_split",
    "load_image_folder",
    "load_single_digits",
    "num_classes",
    "prepare_digit_scenes",
    "register_builtin_datasets",
    "register_cifar",
    "register_coco_files",
    "register_digit_scenes",
    "register_image_folder",
    "register_image_folders",
    "use_coco_files",
    "use_image_folders",
]
