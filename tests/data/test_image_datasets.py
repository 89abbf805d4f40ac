"""Datasets whose index is tensors."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakedrop_det.data import ImageArrays, ImageFiles

# As on disk: any bytes may come back from os.scandir, as surrogates if they are not UTF-8.
NAMES = st.binary(min_size=1, max_size=9).map(os.fsdecode)


@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), min_size=1, max_size=5))
def test_files_come_back_as_they_went_in(files: list[list[str]]) -> None:
    folders = [f"/root/{number}" for number in range(len(files))]
    found = ImageFiles(folders, files)
    expected = [
        (os.path.join(folder, name), label)
        for label, (folder, names) in enumerate(zip(folders, files, strict=True))
        for name in names
    ]
    assert [(record["file_name"], record["label"]) for record in found] == expected
    assert [record["image_id"] for record in found] == list(range(len(expected)))


def test_index_is_small_and_holds_few_objects() -> None:
    files = [[f"n{label:08}_{number}.JPEG" for number in range(1000)] for label in range(10)]
    dataset = ImageFiles([f"/datasets/imagenet/train/n{label:08}" for label in range(10)], files)
    # Tensors: memory without reference counts, which stays shared with worker processes.
    assert len(pickle.dumps(dataset)) < 30 * len(dataset) + 5000


@pytest.mark.parametrize("index", [-1, 3])
def test_no_such_image(index: int) -> None:
    arrays = ImageArrays(np.zeros((3, 2, 2, 3), dtype=np.uint8), [0, 1, 2])
    files = ImageFiles(["a"], [["x", "y", "z"]])
    for dataset in (arrays, files):
        with pytest.raises(IndexError, match=f"image {index} of a dataset of 3"):
            dataset[index]


def test_arrays_give_their_images_with_one_label_each() -> None:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    dataset = ImageArrays(images, [7, 3])
    assert [(r["image_id"], r["label"]) for r in dataset] == [(0, 7), (1, 3)]
    np.testing.assert_array_equal(np.stack([r["image"] for r in dataset]), images)
    with pytest.raises(ValueError, match="2 images need as many labels, got 3"):
        ImageArrays(images, [1, 2, 3])
