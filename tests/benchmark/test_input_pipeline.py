"""The loaders that are compared must do the same work."""

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from shakedrop_det.benchmark.input_pipeline import (
    _our_loader,
    _reference_loader,
    time_input_pipelines,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of three images, the pixels of each of its own brightness."""
    for index in range(6):
        folder = tmp_path / f"class_{index // 3}"
        folder.mkdir(exist_ok=True)
        brightness = 40 * index + 10
        Image.new("RGB", (256, 300), (brightness,) * 3).save(folder / f"{index}.png")
    return tmp_path


def test_both_loaders_give_each_image_once_per_epoch_in_one_size(root: Path) -> None:
    mean, std = 0.485, 0.229  # of torchvision's red channel
    reference = Counter()
    for images, labels in _reference_loader(root, 2, 0):
        assert images.shape == (2, 3, 224, 224)
        bright = (images[:, 0, 0, 0] * std + mean) * 255
        reference.update(zip(labels.tolist(), bright.round().int().tolist(), strict=True))
    ours = Counter()
    for batch in islice(_our_loader(root, 2, 0), 3):
        assert all(image["image"].shape == (3, 224, 224) for image in batch)
        assert all(image["image"].dtype == torch.uint8 for image in batch)
        ours.update((image["label"], int(image["image"][0, 0, 0])) for image in batch)
    assert ours == reference == Counter({(i // 3, 40 * i + 10): 1 for i in range(6)})


def test_each_round_times_both(root: Path) -> None:
    timings = time_input_pipelines(root, batch_size=2, batches=2, rounds=3, num_workers=0)
    assert list(timings) == ["torchvision reference", "shakedrop_det"]
    assert all(len(timing.seconds) == len(timing.ratios) == 3 for timing in timings.values())
    assert timings["torchvision reference"].ratios == [1.0] * 3
