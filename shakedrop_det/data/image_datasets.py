"""Datasets of labelled images, stored so that worker processes share one copy.

A list of 1.28 million dicts takes a gigabyte, which each worker gradually copies, since reading a
Python object writes to its reference count. Reading tensors writes nothing, and PyTorch moves them
to shared memory if workers do not start as copies of their parent.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from itertools import accumulate
from typing import Any, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset


class ImageFiles(Dataset):
    """Image files by class, stored in about 30 bytes each."""

    def __init__(self, folders: Sequence[str], files: Sequence[Sequence[str]]) -> None:
        """
        Args:
            folders: Path of the folder of each class. The label of a class is its index.
            files: Names of the images in the folder of each class.
        """
        self.folders = tuple(folders)
        self._ends_of_classes = list(accumulate(len(names) for names in files))
        encoded = [os.fsencode(name) for names in files for name in names]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        self._ends = torch.from_numpy(lengths.cumsum())
        self._names = torch.frombuffer(bytearray(b"".join(encoded)), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``file_name``, ``image_id`` (the index) and ``label`` of an image."""
        _check_index(index, len(self))
        begin = int(self._ends[index - 1]) if index else 0
        name = os.fsdecode(self._names[begin : int(self._ends[index])].numpy().tobytes())
        label = bisect_right(self._ends_of_classes, index)
        file_name = os.path.join(self.folders[label], name)
        return {"file_name": file_name, "image_id": index, "label": label}


class ImageArrays(Dataset):
    """In-memory images of one size."""

    def __init__(self, images: np.ndarray, labels: Sequence[int]) -> None:
        """
        Args:
            images: Images, (N, H, W, 3) uint8 RGB.
            labels: Label of each image, from 0.

        Raises:
            ValueError: If the numbers of images and labels differ.
        """
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images need as many labels, got {len(labels)}")
        self._images = torch.from_numpy(np.ascontiguousarray(images))
        self._labels = torch.tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``image``, (H, W, 3) uint8 RGB, ``image_id`` (the index) and ``label``."""
        _check_index(index, len(self))
        image = self._images[index].numpy()
        return {"image": image, "image_id": index, "label": int(self._labels[index])}


def _check_index(index: int, length: int) -> None:
    # An IndexError also ends an iteration.
    if not 0 <= index < length:
        raise IndexError(f"image {index} of a dataset of {length}")
