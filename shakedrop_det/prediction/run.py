"""Run a model on files, and write drawn images and results."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Iterator

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.utils.video_visualizer import VideoVisualizer
from PIL import Image
from tqdm import tqdm

from shakedrop_det.data import num_classes
from shakedrop_det.data.image_formats import check_channels
from shakedrop_det.evaluation.instance_drawing import with_names
from shakedrop_det.utils.output_folder import make_output_folder
from shakedrop_det.utils.reading import UnreadableImageError, naming_file
from shakedrop_det.utils.written import save_picture

from .drawing import draw_frame, draw_output
from .formats import in_format, is_colour
from .inputs import Inputs, Video, find_inputs
from .large_images import read_bounded
from .predictor import Predictor, class_names
from .results import CocoResults

_MAX_TICKS = 65535


@dataclass
class PredictionSummary:
    """Summary of a prediction run.

    Attributes:
        num_images, num_frames: number of images and of video frames that were read.
        num_results: number of detected objects, or for a classifier, of listed classes.
        skipped: error message for each file that could not be read.
    """

    num_images: int = 0
    num_frames: int = 0
    num_results: int = 0
    skipped: list[str] = field(default_factory=list)


def predict(
    cfg: CfgNode,
    names: Iterable[str],
    output: Path,
    *,
    folded: bool = True,
    allow_pickle: bool = False,
) -> PredictionSummary:
    """Run a model on images and videos, draw the predictions and write them in COCO format.

    The output folder receives ``drawn/``, with a picture or video for each file, ``results.json``
    and ``image_info.json``, see :class:`~shakedrop_det.prediction.results.CocoResults`; also if the
    run is interrupted.

    Args:
        cfg: see :class:`~shakedrop_det.prediction.Predictor`.
        names: see :func:`~shakedrop_det.prediction.find_inputs`.
        output: output folder; created if missing.
        folded, allow_pickle: see :class:`~shakedrop_det.prediction.Predictor`.

    Raises:
        FileNotFoundError: if a name matches no file, or the weights are missing.
        ValueError: if the folder is not writable, or the model only proposes boxes; see also
            ``Predictor``.
        OSError: if a video cannot be written.
        UnreadableImageError: if none of the files could be read.
    """
    if cfg.MODEL.META_ARCHITECTURE == "ProposalNetwork":
        raise ValueError(
            "MODEL.META_ARCHITECTURE 'ProposalNetwork' outputs proposals, which have no classes to "
            "draw; evaluate it with tools/train_net.py --eval-only"
        )
    if cfg.MODEL.META_ARCHITECTURE != "ImageClassifier":
        check_channels(cfg)
    inputs = find_inputs(names)
    make_output_folder(output / "drawn")
    predictor = Predictor(cfg, folded=folded, allow_pickle=allow_pickle)
    run = _Run(predictor, output, inputs)
    try:
        run.images(inputs)
        run.videos(inputs)
    finally:  # An interrupted run keeps its results so far.
        run.results.write(output)
    summary = run.summary
    if not summary.num_images + summary.num_frames:
        raise UnreadableImageError("no file could be read: " + "; ".join(summary.skipped))
    return summary


class _Run:
    def __init__(self, predictor: Predictor, output: Path, inputs: Inputs) -> None:
        self.predictor = predictor
        self.summary = PredictionSummary()
        self.names = class_names(predictor.metadata, num_classes(predictor.cfg)[1] or 0)
        self.results = CocoResults(predictor.metadata, self.names)
        num_stuff = predictor.cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        self.metadata = with_names(predictor.metadata, things=self.names, num_stuff=num_stuff)
        self.drawn = output / "drawn"
        # Inputs may be in the folder of the drawn images, and must not be overwritten.
        self._taken = {path.resolve() for path in (*inputs.images, *inputs.videos)}

    def images(self, inputs: Inputs) -> None:
        for path in tqdm(inputs.images, desc="images", disable=not inputs.images):
            with self._noting_unreadable():
                with naming_file(str(path)):
                    image, size = read_bounded(str(path))
                    taken = self._as_taken(image, path)
                    # Raises if downscaling leaves an image of extreme aspect ratio empty.
                    output = self._predict(taken, size=size, file_name=str(path))
                self.summary.num_images += 1
                drawn = draw_output(image, output, **self._classes)
                suffix = path.suffix if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
                target = self._path(path.stem, suffix)
                save_picture(Image.fromarray(drawn), target, quality=92)

    def videos(self, inputs: Inputs) -> None:
        for path in inputs.videos:
            with self._noting_unreadable():
                self._video(Video(path))

    def _video(self, video: Video) -> None:
        target = str(self._path(video.path.stem, ".mp4"))
        writer = _open_writer(target, video)
        visualizer = VideoVisualizer(self.metadata)
        frames = tqdm(video, desc=video.path.name, total=len(video) or None)
        try:
            for index, bgr in enumerate(frames):
                frame = np.ascontiguousarray(bgr[:, :, ::-1])
                taken = self._as_taken(frame)
                output = self._predict(
                    taken, size=frame.shape[:2], file_name=str(video.path), frame=index
                )
                self.summary.num_frames += 1
                drawn = draw_frame(frame, output, visualizer=visualizer, **self._classes)
                writer.write(np.ascontiguousarray(drawn[:, :, ::-1]))
        finally:  # An unreleased video cannot be played.
            writer.release()
        if not frames.n:
            Path(target).unlink(missing_ok=True)
            raise UnreadableImageError(f"cannot read video {video.path}: it has no frames")
        _check_written(target, frames.n)

    @property
    def _classes(self) -> dict[str, Any]:
        return {"names": self.names, "metadata": self.metadata}

    def _as_taken(self, rgb: np.ndarray, path: Path | None = None) -> np.ndarray:
        """Convert an image to the predictor's format; read it again if RGB may have lost data."""
        image_format = self.predictor.cfg.INPUT.FORMAT
        if path is None or is_colour(image_format):
            return in_format(rgb, image_format)
        return read_bounded(str(path), image_format=image_format)[0]

    def _predict(self, image: np.ndarray, *, size: tuple[int, ...], **about: Any) -> dict[str, Any]:
        output = {key: _to_cpu(value) for key, value in self.predictor(image).items()}
        height, width = size
        self.summary.num_results += self.results.add(output, height=height, width=width, **about)
        return output

    def _path(self, stem: str, suffix: str) -> Path:
        """Return an unused path for a drawing; numbers distinguish inputs of the same name."""
        path, number = self.drawn / f"{stem}{suffix}", 1
        while path.resolve() in self._taken:
            number += 1
            path = self.drawn / f"{stem}_{number}{suffix}"
        self._taken.add(path.resolve())
        return path

    @contextmanager
    def _noting_unreadable(self) -> Iterator[None]:
        try:
            yield
        except UnreadableImageError as error:
            self.summary.skipped.append(str(error))


def _open_writer(target: str, video: Video) -> cv2.VideoWriter:
    rate = video.frames_per_second
    # MPEG-4 limits the ticks per second, so high frame rates are rounded to fewer decimals.
    digits = max(math.floor(math.log10(_MAX_TICKS / rate)), 0)
    rate = min(round(rate, digits), _MAX_TICKS)
    writer = cv2.VideoWriter(target, cv2.VideoWriter.fourcc(*"mp4v"), rate, video.size)
    if not writer.isOpened():
        width, height = video.size
        raise OSError(
            f"cannot write video {target} of {width} x {height} pixels at {rate:g} frames per "
            f"second: convert {video.path} to another size or rate, or leave it out"
        )
    return writer


def _check_written(path: str, num_frames: int) -> None:
    """Check that a video is complete, since OpenCV does not report write errors.

    Raises:
        OSError: if frames are missing, naming the file.
    """
    written = cv2.VideoCapture(path)
    found = int(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written.isOpened() else 0
    written.release()
    if found != num_frames:
        raise OSError(
            f"cannot write {path!r}: it has {found} of {num_frames} frames; free disk space, or "
            "write to another disk"
        )


def _to_cpu(value: Any) -> Any:
    if isinstance(value, tuple):  # panoptic segmentation
        return tuple(_to_cpu(part) for part in value)
    return value.to("cpu") if hasattr(value, "to") else value
