"""Measure images per second of the classification loader, and of torchvision's reference."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from torch import nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from shakedrop_det.config import add_training_config
from shakedrop_det.data import (
    build_classification_train_loader,
    load_image_folder,
    register_image_folder,
)

from .timing import Timing

OURS, REFERENCE = "shakedrop_det", "torchvision reference"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NAME = "input_pipeline_benchmark"


def time_input_pipelines(
    root: str | os.PathLike[str],
    *,
    batch_size: int = 32,
    batches: int = 16,
    rounds: int = 9,
    num_workers: int = 1,
) -> dict[str, Timing]:
    """Time the training input of the ImageNet recipe: random crop to 224 pixels, and flip.

    Both loaders read the same files in worker processes. Rounds of wall-clock time are interleaved,
    and begin after the workers' queues were emptied. torchvision's reference normalizes in the
    workers. Our loader returns bytes, which the model normalizes on its device.

    Args:
        root: folder with a folder of images for each class.
        batch_size: images per batch.
        batches: batches per round.
        rounds: number of times that each loader is timed.
        num_workers: number of worker processes of each loader.

    Returns:
        dict: seconds per image of each loader, the reference first.

    Raises:
        FileNotFoundError: if there are no class folders, or one has no images.
        ValueError: if there are fewer images than a batch has.
    """
    number = len(load_image_folder(root))
    if number < batch_size:  # The reference would loop forever without returning a batch.
        raise ValueError(
            f"{os.fspath(root)} has only {number} images: lower --batch-size {batch_size} to at "
            "most this number"
        )
    loaders = {
        REFERENCE: _endless(_reference_loader(root, batch_size, num_workers)),
        OURS: iter(_our_loader(root, batch_size, num_workers)),
    }
    timings = {name: Timing() for name in loaders}
    # Batches that workers prepared while the other loader was timed must not count.
    queued = 2 * max(num_workers, 1)
    for index in range(rounds):
        names = list(loaders) if index % 2 else list(reversed(loaders))
        seconds = {}
        for name in names:
            _take(loaders[name], queued)
            begin = time.perf_counter()
            _take(loaders[name], batches)
            seconds[name] = (time.perf_counter() - begin) / (batches * batch_size)
        for name in loaders:
            timings[name].seconds.append(seconds[name])
            timings[name].ratios.append(seconds[name] / seconds[REFERENCE])
    return timings


def _take(loader: Iterator[Any], count: int) -> None:
    for _ in islice(loader, count):
        pass


def reference_transform() -> nn.Module:
    """Return the training transform of torchvision's classification reference, on Pillow images."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(224, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float, scale=True),
            v2.Normalize(mean=_MEAN, std=_STD),
        ]
    )


def _reference_loader(
    root: str | os.PathLike[str], batch_size: int, num_workers: int
) -> DataLoader[Any]:
    dataset = ImageFolder(os.fspath(root), reference_transform())
    return DataLoader(
        dataset,
        batch_size,
        sampler=RandomSampler(dataset),
        num_workers=num_workers,
        drop_last=True,
        persistent_workers=num_workers > 0,
    )


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def _our_loader(root: str | os.PathLike[str], batch_size: int, num_workers: int) -> Any:
    name = f"{_NAME}:{os.path.abspath(root)}"
    register_image_folder(name, root)
    return build_classification_train_loader(_config(name, batch_size, num_workers))


def _config(name: str, batch_size: int, num_workers: int) -> CfgNode:
    cfg = get_cfg()
    add_training_config(cfg)
    cfg.DATASETS.TRAIN = (name,)
    cfg.SOLVER.IMS_PER_BATCH = batch_size
    cfg.DATALOADER.NUM_WORKERS = num_workers
    cfg.INPUT.FORMAT = "RGB"
    return cfg
