"""A COCO file and a folder of images, as people have them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from shakedrop_det.data.annotation_checks import Needs

HEIGHT, WIDTH = 64, 80
NAME = "test_annotations"
RLE = {"size": [HEIGHT, WIDTH], "counts": [10, 20, 5090]}
POLYGONS = Needs(masks=True, polygons=True)
MASKS = Needs(masks=True)
EVALUATED = Needs(training=False, masks=True)
PLAIN: dict[str, Any] = {
    "id": 1,
    "image_id": 2,
    "category_id": 5,
    "iscrowd": 0,
    "area": 576,
    "bbox": [6, 8.5, 24, 24],
    "segmentation": [[6, 8, 30, 8, 30, 32], [6, 8, 9, 8, 9, 9, 6, 9]],
}
Content = dict[str, Any]


@contextlib.contextmanager
def forgotten_after(registered: dict[str, Any]) -> Iterator[None]:
    """Remove the datasets whose names are keys from detectron2's catalogs after the block."""
    yield
    for name in list(registered):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    registered.clear()


def write_own_data(
    folder: Path,
    change: Callable[[dict[str, Any]], object] | None = None,
    *,
    categories: Sequence[tuple[int, str]] = ((5, "cat"), (9, "dog")),
    num_images: int = 4,
    mode: str = "RGB",
) -> str:
    """Write ``instances.json`` and ``images/``: in each image one square of each category.

    Args:
        folder: is made.
        change: changes the content of the json before it is written.
        categories: ids and names.
        num_images: how many.
        mode: of Pillow, of the images.

    Returns:
        str: ``json:image_root``, for ``DATASETS.TRAIN``.
    """
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(num_images):
        pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / "images" / f"{index}.png")
        record = {"id": index + 1, "file_name": f"{index}.png", "height": HEIGHT, "width": WIDTH}
        images.append(record)
        for place, (category, _) in enumerate(categories):
            x, y, side = 6 + 12 * place, 8 + 5 * place, 24
            corners = [x, y, x + side, y, x + side, y + side, x, y + side]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": category,
                    "iscrowd": 0,
                    "bbox": [x, y, side, side],
                    "area": side**2,
                    "segmentation": [corners],
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    if change is not None:
        change(content)
    (folder / "instances.json").write_text(json.dumps(content))
    return f"{folder / 'instances.json'}:{folder / 'images'}"


def each(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    """The same change of all annotations."""
    return lambda content: [change(annotation) for annotation in content["annotations"]]


def first(**values: object) -> Callable[[Content], object]:
    """A change of the first annotation."""
    return lambda content: content["annotations"][0].update(values)


def without(key: str) -> Callable[[Content], object]:
    """All annotations without a key."""
    return each(lambda annotation: annotation.pop(key))
