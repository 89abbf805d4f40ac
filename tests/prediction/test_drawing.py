"""Pictures of what models other than instance detectors give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Instances

from shakedrop_det.prediction.drawing import draw_output


@pytest.fixture
def metadata() -> Metadata:
    return Metadata(
        name="made up",
        thing_classes=["ball"],
        thing_colors=[(200, 0, 0)],
        stuff_classes=["ground", "sky"],
        stuff_colors=[(0, 200, 0), (0, 0, 200)],
    )


IMAGE = np.full((100, 100, 3), 128, dtype=np.uint8)


def channel_means(picture: np.ndarray, rows: slice) -> np.ndarray:
    return picture[rows, 60:].reshape(-1, 3).mean(axis=0)


def test_semantic_classes_are_drawn_where_they_are(metadata: Metadata) -> None:
    scores = torch.zeros(2, 100, 100)
    scores[1, :50] = 1
    picture = draw_output(IMAGE, {"sem_seg": scores}, names=[], metadata=metadata)
    assert channel_means(picture, slice(30, 45)).argmax() == 2
    assert channel_means(picture, slice(80, 95)).argmax() == 1


def test_panoptic_segments_are_drawn_where_they_are(metadata: Metadata) -> None:
    panoptic = torch.ones(100, 100, dtype=torch.int32)
    panoptic[50:] = 2
    segments = [
        {"id": 1, "isthing": False, "category_id": 1, "area": 5000},
        {"id": 2, "isthing": True, "category_id": 0, "instance_id": 0, "score": 0.9},
    ]
    output = {"panoptic_seg": (panoptic, segments), "instances": Instances((100, 100))}
    picture = draw_output(IMAGE, output, names=["ball"], metadata=metadata)
    assert channel_means(picture, slice(30, 45)).argmax() == 2
    assert channel_means(picture, slice(80, 95)).argmax() == 0


@pytest.mark.parametrize("score", [0.2, 0.9])
def test_bars_are_as_long_as_classes_are_likely(metadata: Metadata, score: float) -> None:
    output = {"scores": torch.tensor([1 - score, score])}
    picture = draw_output(IMAGE, output, names=["a", "b"], metadata=metadata)
    assert picture.shape == (300 + 2 * 22, 300, 3)
    for line, share in enumerate(sorted((score, 1 - score), reverse=True)):
        bar = (picture[300 + 22 * line + 1] == (40, 90, 160)).all(axis=1)
        assert bar.sum() == pytest.approx(300 * share, abs=2)
