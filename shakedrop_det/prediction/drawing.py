"""Draw the predictions for one image."""

from __future__ import annotations

from typing import Any

import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import Visualizer
from PIL import Image, ImageDraw, ImageFont

from shakedrop_det.evaluation.instance_drawing import draw_instances

from .results import TOP

_LINE = 22  # height of a line of text in pixels


def draw_output(
    image: np.ndarray, output: dict[str, Any], *, names: list[str], metadata: Metadata
) -> np.ndarray:
    """Draw the predictions of a model on an image.

    Args:
        image: (H, W, 3), uint8, RGB.
        output: output of :class:`~shakedrop_det.prediction.Predictor`, on the CPU.
        names: class names.
        metadata: metadata of a dataset with these classes.

    Returns:
        np.ndarray: (H', W', 3), uint8, RGB; small images are enlarged.
    """
    if "scores" in output:
        return _draw_scores(image, output, names)
    if "panoptic_seg" in output:
        panoptic, segments = output["panoptic_seg"]
        drawn = Visualizer(image, metadata).draw_panoptic_seg_predictions(panoptic, segments)
        return drawn.get_image()
    if "sem_seg" in output:
        drawn = Visualizer(image, metadata).draw_sem_seg(output["sem_seg"].argmax(dim=0))
        return drawn.get_image()
    found: Instances = output["instances"]
    return draw_instances(
        image,
        classes=found.pred_classes.tolist(),
        labels=_labels(found, names),
        boxes=found.pred_boxes,
        masks=list(found.pred_masks.numpy()) if found.has("pred_masks") else None,
        keypoints=found.pred_keypoints if found.has("pred_keypoints") else None,
        metadata=metadata,
    )


def draw_frame(
    frame: np.ndarray,
    output: dict[str, Any],
    *,
    names: list[str],
    metadata: Metadata,
    visualizer: VideoVisualizer,
) -> np.ndarray:
    """Draw the predictions on a video frame. Instances keep their colours across frames.

    Args:
        frame, output, names, metadata: see :func:`draw_output`.
        visualizer: the visualizer of the earlier frames, which tracks the colours.

    Returns:
        np.ndarray: (H, W, 3), uint8, RGB.
    """
    if "instances" in output and "panoptic_seg" not in output:
        return visualizer.draw_instance_predictions(frame, output["instances"]).get_image()
    drawn = Image.fromarray(draw_output(frame, output, names=names, metadata=metadata))
    return np.asarray(drawn.resize((frame.shape[1], frame.shape[0])))


def _labels(found: Instances, names: list[str]) -> list[str]:
    numbers, scores = found.pred_classes.tolist(), found.scores.tolist()
    return [f"{names[n]} {s:.0%}" for n, s in zip(numbers, scores, strict=True)]


def _draw_scores(image: np.ndarray, output: dict[str, Any], names: list[str]) -> np.ndarray:
    """Draw the most likely classes below the image, with bars proportional to their scores."""
    scores, classes = output["scores"].topk(min(TOP, len(output["scores"])))
    picture = Image.fromarray(image)
    factor = max(1, round(300 / max(picture.size)))
    picture = picture.resize((factor * picture.width, factor * picture.height))
    canvas = Image.new("RGB", (max(picture.width, 300), picture.height + _LINE * len(scores)))
    canvas.paste(picture)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    for line, (number, score) in enumerate(zip(classes.tolist(), scores.tolist(), strict=True)):
        top = picture.height + line * _LINE
        right = round(score * (canvas.width - 1))
        draw.rectangle((0, top, right, top + _LINE - 3), fill=(40, 90, 160))
        draw.text((5, top), f"{names[number]}  {score:.1%}", fill="white", font=font)
    return np.asarray(canvas)
