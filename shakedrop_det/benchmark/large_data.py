"""Measure start-up time and memory with large datasets, against stock detectron2."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tabulate import tabulate

STOCK, OURS = "detectron2", "shakedrop_det"
_WIDTH, _HEIGHT, _CLASSES = 640, 480, 80
_LINKS = 50_000
"""Files per hard-linked original. File systems limit the number of links, ext4 to 65,000."""
_WORKERS, _BATCH, _BATCHES = 2, 16, 200


@dataclass(frozen=True)
class LargeData:
    """A synthetic dataset.

    Attributes:
        name: name of the dataset in the table.
        images: number of images.
        boxes: number of boxes; 0 for class folders instead of a COCO file.
        classes: number of classes.
    """

    name: str
    images: int
    boxes: int
    classes: int = _CLASSES


LARGE_DATA = (
    LargeData("COCO file, 12 k images, 86 k boxes", 11_800, 86_000),
    LargeData("COCO file, 118 k images, 860 k boxes", 118_000, 860_000),
    LargeData("COCO file, 236 k images, 1.72 M boxes", 236_000, 1_720_000),
    LargeData("COCO file, 1 M images, 10 M boxes", 1_000_000, 10_000_000),
    LargeData("class folders, 128 k images", 128_000, 0, 1000),
    LargeData("class folders, 1.28 M images", 1_280_000, 0, 1000),
)


@dataclass(frozen=True)
class StartUp:
    """The cost of starting training, excluding imports.

    Attributes:
        seconds: processor time of the main process until the first batch is available.
        peak: peak memory of the main process in bytes.
        worker: private memory of the largest data worker after some batches, in bytes.
    """

    seconds: float
    peak: int
    worker: int


def build(data: LargeData, folder: Path) -> None:
    """Create the files unless they exist. All images are the same.

    Args:
        data: dataset to create.
        folder: receives ``images`` and ``annotations.json``, or ``images`` with class folders.
    """
    done = folder / "done"
    if done.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)  # What is left of an interrupted call.
    images = folder / "images"
    images.mkdir(parents=True)
    names = [f"{index:012d}.jpg" for index in range(data.images)]
    if not data.boxes:
        names = [f"{index % data.classes:04d}/{name}" for index, name in enumerate(names)]
        for label in range(data.classes):
            (images / f"{label:04d}").mkdir(exist_ok=True)
    for begin in range(0, data.images, _LINKS):
        original = folder / f"original_{begin}.jpg"
        Image.new("RGB", (_WIDTH, _HEIGHT)).save(original)
        for name in names[begin : begin + _LINKS]:
            os.link(original, images / name)
    if data.boxes:
        with open(folder / "annotations.json", "w") as file:
            file.writelines(_coco_text(data, names))
    done.touch()


def _coco_text(data: LargeData, names: list[str]) -> Iterator[str]:
    """Yield the COCO file in parts, since the whole would take gigabytes of memory."""
    rng = np.random.default_rng(0)
    categories = [{"id": i + 1, "name": f"class {i}"} for i in range(data.classes)]
    yield f'{{"categories": {json.dumps(categories)},\n"images": ['
    for index, name in enumerate(names):
        size = {"height": _HEIGHT, "width": _WIDTH}
        yield (",\n" if index else "") + json.dumps({"id": index + 1, "file_name": name, **size})
    yield '],\n"annotations": ['
    image_of = rng.integers(data.images, size=data.boxes)
    category_of = rng.integers(data.classes, size=data.boxes)
    corners = rng.uniform(0, [_WIDTH / 2, _HEIGHT / 2], size=(data.boxes, 2)).round(2)
    sizes = rng.uniform(1, [_WIDTH / 2, _HEIGHT / 2], size=(data.boxes, 2)).round(2)
    for index in range(data.boxes):
        box = [*corners[index].tolist(), *sizes[index].tolist()]
        annotation = {
            "id": index + 1,
            "image_id": int(image_of[index]) + 1,
            "category_id": int(category_of[index]) + 1,
            "bbox": box,
            "area": round(box[2] * box[3], 2),
            "iscrowd": 0,
        }
        yield (",\n" if index else "") + json.dumps(annotation)
    yield "]}\n"


def measure_start(data: LargeData, folder: Path, variant: str) -> StartUp:
    """Start the training input in a separate process, without reading images.

    Args:
        data: dataset that :func:`build` created.
        folder: folder of the dataset.
        variant: ``STOCK`` or ``OURS``, which also checks the data.
    """
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_measure, args=(data, str(folder), variant, its))
    process.start()
    its.close()
    result = ours.recv()
    process.join()
    return result


def table(results: Mapping[str, Mapping[str, StartUp]]) -> str:
    """Format results of :func:`measure_start`, by data and variant, stock first, in markdown."""
    rows = []
    for name, variants in results.items():
        stock = variants[STOCK]
        for variant, found in variants.items():
            ratios = found.seconds / stock.seconds, found.peak / stock.peak
            sizes = f"{found.peak / 2**20:.0f} MiB", f"{found.worker / 2**20:.0f} MiB"
            rows.append(
                [name, variant, f"{found.seconds:.1f} s", *sizes, *map("{:.2f}".format, ratios)]
            )
    headers = ["data", "variant", "start", "main process", "each worker", "time", "memory"]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def _measure(data: LargeData, folder: str, variant: str, pipe: Any) -> None:
    # Fork data workers as by default on Linux; a spawned process would spawn them.
    multiprocessing.set_start_method("fork", force=True)
    # Import in advance what the parts import on first use, to exclude it from the measurement.
    import pycocotools.coco  # noqa: F401
    import torch.utils.data  # noqa: F401

    start = (_coco if data.boxes else _class_folders)(folder, variant)
    before = _memory("VmRSS")
    begin = time.process_time()
    batches = iter(start())
    next(batches)
    seconds = time.process_time() - begin
    for _ in range(_BATCHES):
        next(batches)
    workers = [_private_bytes(child.pid) for child in multiprocessing.active_children()]
    pipe.send(StartUp(seconds, _memory("VmHWM") - before, max(workers)))
    pipe.close()


def _coco(folder: str, variant: str) -> Callable[[], Any]:
    from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts
    from detectron2.data.datasets import register_coco_instances

    from shakedrop_det.data import check_dataset
    from shakedrop_det.data.coco_json import without_collection
    from shakedrop_det.engine.resumable_loader import resumable

    register_coco_instances("large", {}, f"{folder}/annotations.json", f"{folder}/images")

    def start() -> Any:
        options = {"total_batch_size": _BATCH, "num_workers": _WORKERS, "mapper": _unread}
        if variant == STOCK:
            return build_detection_train_loader(get_detection_dataset_dicts("large"), **options)
        check_dataset("large", num_classes=_CLASSES)
        with without_collection():  # as the trainer does
            loader = build_detection_train_loader(get_detection_dataset_dicts("large"), **options)
        return resumable(loader)

    return start


def _class_folders(folder: str, variant: str) -> Callable[[], Any]:
    from detectron2.data import build_detection_train_loader
    from torchvision.datasets import ImageFolder

    from shakedrop_det.data import load_image_folder
    from shakedrop_det.data.mapped_images import MappedImages
    from shakedrop_det.engine.resumable_loader import resumable

    def start() -> Any:
        options = {"total_batch_size": _BATCH, "num_workers": _WORKERS}
        options["aspect_ratio_grouping"] = False
        if variant == OURS:
            images = MappedImages(load_image_folder(f"{folder}/images"), _unread)
            return resumable(build_detection_train_loader(images, mapper=None, **options))
        samples = ImageFolder(f"{folder}/images").samples
        records = [{"file_name": name, "label": label} for name, label in samples]
        del samples
        return build_detection_train_loader(records, mapper=_unread, **options)

    return start


def _unread(record: dict[str, Any]) -> dict[str, Any]:
    """Map a record without reading its image."""
    return record


def _memory(field: str) -> int:
    """Return ``VmRSS``, the current memory of this process, or ``VmHWM``, its peak, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise ValueError(f"/proc/self/status has no {field}")


def _private_bytes(pid: int | None) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
