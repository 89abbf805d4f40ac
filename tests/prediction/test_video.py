"""Predictions for videos."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import CfgNode

from shakedrop_det.prediction import predict
from shakedrop_det.prediction.inputs import Video

Trained = Callable[..., CfgNode]
pytestmark = pytest.mark.usefixtures("clean_logging")


def test_each_frame_of_a_video_is_predicted_and_drawn(
    trained: Trained, video: Path, tmp_path: Path
) -> None:
    done = predict(trained("mask_rcnn"), [str(video)], tmp_path / "out")
    assert (done.num_images, done.num_frames) == (0, 5)
    drawn = Video(tmp_path / "out" / "drawn" / "film.mp4")
    assert (drawn.size, drawn.frames_per_second) == ((128, 96), 5.0)
    assert len(list(drawn)) == 5
    info = json.loads((tmp_path / "out" / "image_info.json").read_text())
    assert [image["frame"] for image in info["images"]] == list(range(5))
    assert done.num_results > 0


@pytest.mark.parametrize(
    "rate, written", [(23.976, 23.976), (239.873, 239.87), (1000.0, 1000.0), (90000.0, 65535.0)]
)
def test_video_of_any_rate(
    trained: Trained,
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rate: float,
    written: float,
) -> None:
    monkeypatch.setattr(Video, "frames_per_second", rate)
    predict(trained("classifier"), [str(video)], tmp_path / "out")
    monkeypatch.undo()
    drawn = Video(tmp_path / "out" / "drawn" / "film.mp4")
    assert drawn.frames_per_second == pytest.approx(written, rel=1e-6)
    assert len(list(drawn)) == 5


def test_what_was_found_before_an_interrupt_is_kept(
    trained: Trained,
    scenes: list[Path],
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = Video.__iter__

    def interrupted(self: Video) -> Iterator[np.ndarray]:
        yield from itertools.islice(frames(self), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(Video, "__iter__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(trained("classifier"), [str(scenes[0]), str(video)], tmp_path / "out")
    monkeypatch.undo()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {result["image_id"] for result in results} == {1, 2, 3}
    assert len(list(Video(tmp_path / "out" / "drawn" / "film.mp4"))) == 2


def test_video_that_cannot_be_written(
    trained: Trained, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Video, "size", (128, 1_000_000))
    target = tmp_path / "out" / "drawn" / "film.mp4"
    with pytest.raises(OSError, match=f"cannot write video {target} of 128 x 1000000 pixels at 5 "):
        predict(trained("classifier"), [str(video)], tmp_path / "out")
