"""Draw the training images of a config."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import BitMasks, PolygonMasks
from detectron2.utils.env import seed_all_rng
from detectron2.utils.visualizer import Visualizer
from matplotlib.figure import Figure
from PIL import Image

from shakedrop_det.engine import Trainer
from shakedrop_det.engine.checks import check_datasets
from shakedrop_det.evaluation.instance_drawing import draw_instances, with_names
from shakedrop_det.utils.output_folder import make_output_folder
from shakedrop_det.utils.written import save_figure, save_picture

_CELL = 2.0  # inches per picture on the sheet


def draw_training_images(
    cfg: CfgNode, output: str | os.PathLike[str], *, num_images: int = 16
) -> list[Path]:
    """Draw images as the trainer receives them: after augmentation, with their labels.

    For detection datasets, a file per image shows boxes, masks, keypoints and class names, and a
    second one, ending in ``_sem_seg.png``, semantic labels. For classification datasets, all images
    are on one sheet, ``images.png``, without mixup and CutMix, which the model applies. Small
    images are enlarged.

    Args:
        cfg: config as for training. With a ``SEED``, the images are the same each time.
        output: output folder; created if missing.
        num_images: number of images from ``DATASETS.TRAIN``, in the order of the sampler.

    Returns:
        list: paths of the written files.

    Raises:
        OSError: if an image cannot be read, naming it.
        ValueError: if ``num_images`` is below 1, a dataset is unknown or does not fit the model,
            the folder is not writable, or the loader rejects a setting.
    """
    if num_images < 1:
        raise ValueError(f"--num-images must be at least 1, got {num_images!r}")
    folder = make_output_folder(output)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATASETS.TEST = ()
    cfg.OUTPUT_DIR = str(folder)  # A run may be reading what it left out of bad annotations.
    check_datasets(cfg, train=True)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED)
    batches = Trainer.build_train_loader(cfg)
    records = list(itertools.islice(itertools.chain.from_iterable(batches), num_images))
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    metadata = with_names(metadata, num_stuff=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
    if cfg.MODEL.META_ARCHITECTURE == "ImageClassifier":
        path = folder / "images.png"
        save_figure(_draw_sheet(records, cfg.INPUT.FORMAT, metadata), path)
        return [path]
    written = []
    for number, record in enumerate(records, start=1):
        name = f"{number:04d}_{Path(record['file_name']).stem}"
        for suffix, picture in _draw_record(record, cfg.INPUT.FORMAT, metadata).items():
            written.append(folder / f"{name}{suffix}.png")
            save_picture(Image.fromarray(picture), written[-1])
    return written


def _rgb(record: dict[str, Any], image_format: str) -> np.ndarray:
    pixels = record["image"].permute(1, 2, 0).numpy()
    if pixels.shape[2] == 1:
        return np.ascontiguousarray(pixels.repeat(3, axis=2))
    return np.ascontiguousarray(convert_image_to_rgb(pixels, image_format))


def _draw_record(
    record: dict[str, Any], image_format: str, metadata: Metadata
) -> dict[str, np.ndarray]:
    """Draw the pictures of an image, by the suffix of their file names."""
    image = _rgb(record, image_format)
    pictures = {}
    if "instances" in record:
        fields = record["instances"].get_fields()
        names = metadata.get("thing_classes")
        numbers = fields["gt_classes"].tolist()
        pictures[""] = draw_instances(
            image,
            classes=numbers,
            labels=[names[n] if names else str(n) for n in numbers],
            boxes=fields["gt_boxes"],
            masks=_masks(fields.get("gt_masks")),
            keypoints=fields.get("gt_keypoints"),
            metadata=metadata,
        )
    if "sem_seg" in record:
        drawn = Visualizer(image, metadata).draw_sem_seg(record["sem_seg"], alpha=0.6)
        pictures["_sem_seg"] = drawn.get_image()
    return pictures or {"": image}


def _masks(masks: BitMasks | PolygonMasks | None) -> list[Any] | None:
    if isinstance(masks, PolygonMasks):
        return masks.polygons
    return None if masks is None else list(masks.tensor.numpy())


def _draw_sheet(records: list[dict[str, Any]], image_format: str, metadata: Metadata) -> Figure:
    columns = math.ceil(math.sqrt(len(records)))
    rows = math.ceil(len(records) / columns)
    size = (_CELL * columns, (_CELL + 0.3) * rows)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    names = metadata.get("classes")
    for cell in cells:
        cell.axis("off")
    for cell, record in zip(cells, records, strict=False):
        cell.imshow(_rgb(record, image_format), interpolation="nearest")
        label = record["label"]
        cell.set_title(names[label] if names else str(label), fontsize=9)
    return figure
