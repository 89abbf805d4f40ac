"""Checks of the annotations of COCO files, which report all mistakes at once.

What detectron2 handles itself is not reported: in training it drops polygons of fewer than three
points and boxes without area, and clips boxes to the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode

from .rle import run_lengths


@dataclass(frozen=True)
class Needs:
    """Requirements of a run on annotations.

    Attributes:
        training: Whether to train on them; otherwise, they are used for COCO metrics.
        masks: Whether the model has a mask head.
        polygons: Whether masks must be polygons.
        keypoints: Number of keypoints of the head; 0 if there is none.
    """

    training: bool = True
    masks: bool = False
    polygons: bool = False
    keypoints: int = 0


def needs_of(cfg: CfgNode, *, training: bool) -> Needs:
    """Return what the heads of a model, and the metrics of its predictions, need."""
    if cfg.MODEL.META_ARCHITECTURE in ("RetinaNet", "ProposalNetwork"):
        return Needs(training)
    return Needs(
        training,
        masks=cfg.MODEL.MASK_ON,
        polygons=training and cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon",
        keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS if cfg.MODEL.KEYPOINT_ON else 0,
    )


Sizes = Mapping[Any, tuple[float, float] | None]
"""Height and width of each image by its id; None where they are unknown."""


class AnnotationCheck:
    """Find mistakes in annotations, one annotation at a time."""

    def __init__(self, needs: Needs, *, sizes: Sizes, categories: Sequence[Any]) -> None:
        """
        Args:
            needs: Requirements of the run.
            sizes: Sizes of the existing images.
            categories: Ids of the categories.
        """
        self._needs = needs
        self._sizes = sizes
        self._categories = frozenset(categories)
        self._listed = ", ".join(map(repr, list(categories)[:10]))
        self._seen: set[Any] = set()

    def is_plain(self, annotation: Any) -> bool:
        """Return whether an annotation is of the most common kind and correct.

        This quick check suffices for almost all annotations of a large dataset. For the others,
        :meth:`problems` finds out what is wrong, if anything.
        """
        try:
            number, box = annotation["id"], annotation["bbox"]
            size = self._sizes[annotation["image_id"]]
            x, y, width, height = box
            is_plain = (
                size is not None
                and type(number) is int
                and number not in self._seen
                and annotation["category_id"] in self._categories
                and annotation.get("iscrowd", 0) == 0
                and "ignore" not in annotation
                and type(box) is list
                and math.isfinite(x + y + width + height)
                and width > 0
                and height > 0
                and x < size[1]
                and y < size[0]
                and x + width > 0
                and y + height > 0
                and self._has_plain_mask(annotation)
                and not self._needs.keypoints
                and (self._needs.training or _has_plain_area(annotation))
            )
        except (TypeError, KeyError, ValueError, OverflowError):
            return False
        if is_plain:
            self._seen.add(number)
        return is_plain

    def _has_plain_mask(self, annotation: dict[str, Any]) -> bool:
        found, are_needed = annotation.get("segmentation"), self._needs.masks
        if not found:
            return not are_needed
        if type(found) is not list or not all(type(polygon) is list for polygon in found):
            return False
        return not are_needed or all(
            len(polygon) >= 6 and len(polygon) % 2 == 0 and math.isfinite(sum(polygon))
            for polygon in found
        )

    def problems(self, annotation: Any) -> Iterator[str]:
        """Yield the mistakes in an annotation, at most one of each kind."""
        if not isinstance(annotation, dict):
            yield f"is not a record but {annotation!r}"
            return
        yield from self._references(annotation)
        # The mapper drops crowds without reading their other fields.
        if self._needs.training and annotation.get("iscrowd", 0) == 1:
            return
        size = self._sizes.get(_hashable(annotation.get("image_id")))
        yield from _box(annotation, size)
        yield from self._segmentation(annotation, size)
        if self._needs.keypoints:
            yield from self._keypoints(annotation)

    def _references(self, annotation: dict[str, Any]) -> Iterator[str]:
        get = annotation.get
        number, image, category = map(_hashable, (get("id"), get("image_id"), get("category_id")))
        if number is None:
            yield "has no 'id'"
        elif number in self._seen:
            yield "has the 'id' of another annotation"
        self._seen.add(number)
        if image not in self._sizes:
            yield f"refers to image {get('image_id')!r}, which is not in the file"
        if category not in self._categories:
            yield f"has category_id {get('category_id')!r}, which is not one of {self._listed}"
        if get("ignore", 0) != 0:
            yield "has 'ignore', which detectron2 does not support: use 'iscrowd'"
        if get("iscrowd", 0) not in (0, 1):
            yield f"has iscrowd {get('iscrowd')!r}, which must be 0 or 1"
        if not self._needs.training:
            if "iscrowd" not in annotation:
                yield "has no 'iscrowd', which COCO metrics need: set it to 0 for a single object"
            if not _is_finite(get("area")) or annotation["area"] < 0:
                yield f"has area {get('area')!r}, but COCO metrics need a number of pixels"

    def _segmentation(
        self, annotation: dict[str, Any], size: tuple[float, float] | None
    ) -> Iterator[str]:
        found, needs = annotation.get("segmentation"), self._needs
        if not found:
            if needs.masks:
                value = repr(found) if "segmentation" in annotation else "missing"
                yield f"has no mask: 'segmentation' is {value}, but MODEL.MASK_ON is True"
        elif isinstance(found, dict):
            if needs.polygons:
                yield "has an RLE mask, but INPUT.MASK_FORMAT is 'polygon': set it to 'bitmask'"
            elif needs.masks:
                yield from _rle(found, size)
        elif not isinstance(found, list) or not all(isinstance(part, list) for part in found):
            yield f"has a 'segmentation' that is not a list of polygons: {str(found)[:40]}"
        elif needs.masks:
            for polygon in found:
                is_short = len(polygon) < 6 or len(polygon) % 2
                if is_short and not needs.training:
                    yield f"has a polygon of {len(polygon)} numbers, not x, y of 3 or more points"
                    return
                if not _are_finite(polygon):
                    yield f"has a polygon of other than finite numbers: {str(polygon)[:40]}"
                    return

    def _keypoints(self, annotation: dict[str, Any]) -> Iterator[str]:
        found, expected = annotation.get("keypoints"), 3 * self._needs.keypoints
        if not isinstance(found, list) or not found:
            yield "has no 'keypoints', but MODEL.KEYPOINT_ON is True"
        elif len(found) != expected or not _are_finite(found):
            yield (
                f"has {len(found)} numbers in 'keypoints', but {self._needs.keypoints} keypoints "
                f"(MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS) have {expected}"
            )
        if not self._needs.training and not _is_finite(annotation.get("num_keypoints")):
            yield "has no 'num_keypoints', which COCO metrics need"


def _box(annotation: dict[str, Any], size: tuple[float, float] | None) -> Iterator[str]:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not _are_finite(box):
        value = f"is {box!r}" if "bbox" in annotation else "is missing"
        yield f"has no valid box: 'bbox' {value}, but must be x, y, width and height"
        return
    x, y, width, height = box
    if width < 0 or height < 0:
        yield f"has a box of negative size: {box!r}; 'bbox' is x, y, width and height"
    elif size is not None and width and height and _is_outside(box, size):
        yield f"has a box outside its image of {size[1]} x {size[0]} pixels: {box!r}"


def _is_outside(box: list[float], size: tuple[float, float]) -> bool:
    x, y, width, height = box
    return x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0


def _rle(mask: dict[str, Any], size: tuple[float, float] | None) -> Iterator[str]:
    counts = mask.get("counts")
    if not isinstance(counts, (list, str)) or not isinstance(mask.get("size"), list):
        yield "has an RLE mask without 'size' and 'counts'"
    elif size is not None and tuple(mask["size"]) != tuple(size):
        yield f"has a mask of height and width {mask['size']}, but its image has {list(size)}"
    elif not _add_up(counts, mask["size"]):
        yield f"has a mask whose 'counts' do not match its size {mask['size']}"


def _add_up(counts: list[Any] | str, size: list[Any]) -> bool:
    """Return whether run lengths match the size of a mask."""
    if len(size) != 2 or not _are_finite(size):
        return False
    if isinstance(counts, list):
        are_lengths = _are_finite(counts) and all(n >= 0 and n % 1 == 0 for n in counts)
        return are_lengths and sum(counts) == math.prod(size)
    try:
        lengths = run_lengths(counts)
    except ValueError:
        return False
    return bool((lengths >= 0).all()) and int(lengths.sum()) == math.prod(size)


def _has_plain_area(annotation: dict[str, Any]) -> bool:
    return "iscrowd" in annotation and _is_finite(annotation["area"]) and annotation["area"] >= 0


def _are_finite(values: list[Any]) -> bool:
    try:
        # One sum instead of one call per number: files have tens of millions.
        return math.isfinite(sum(values))
    except (TypeError, OverflowError):  # Integers of any size are valid JSON.
        return False


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and _are_finite([value])


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (int, str, float)) else None
