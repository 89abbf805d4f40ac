"""tools/benchmark_coco.py: what it measures is the same work."""

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from pycocotools.coco import COCO

from shakedrop_det.benchmark.coco import coco_variants, made_up_detections

TOOL = Path(__file__).parents[2] / "tools" / "benchmark_coco.py"


@pytest.fixture
def annotations(datasets_root: str) -> Path:
    return Path(datasets_root, "digit_scenes", "annotations", "instances_val.json")


def test_detections_are_near_objects(annotations: Path) -> None:
    coco = COCO(annotations)
    detections = made_up_detections(coco, per_image=20)
    assert Counter(d["image_id"] for d in detections) == dict.fromkeys(coco.getImgIds(), 20)
    boxes = {i: [a["bbox"] for a in coco.imgToAnns[i]] for i in coco.getImgIds()}
    for found in detections:
        moved = np.abs(np.array(boxes[found["image_id"]]) - found["bbox"]).max(axis=1)
        assert moved.min() < 30


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_backends_give_the_same(annotations: Path, task: str) -> None:
    variants = coco_variants(annotations, task, per_image=20)
    first, *others = [run().stats for run in variants.values()]
    assert 0.1 < first[0] < 0.9
    for stats in others:
        np.testing.assert_array_equal(stats, first)


@pytest.fixture
def missing_scenes(tmp_path: Path) -> Iterator[None]:
    """A dataset called ``missing_scenes``: registered, on any machine without its files."""
    register_coco_instances("missing_scenes", {}, str(tmp_path / "none.json"), str(tmp_path))
    yield
    DatasetCatalog.remove("missing_scenes")
    MetadataCatalog.remove("missing_scenes")


@pytest.mark.usefixtures("missing_scenes")
@pytest.mark.parametrize(
    "name, message",
    [
        ("digit_scenes_vall", "there is no dataset 'digit_scenes_vall': did you mean"),
        ("missing_scenes", "of dataset 'missing_scenes' does not exist"),
        ("digits_val", "--dataset: 'digits_val' has no annotations in COCO's format"),
    ],
)
def test_data_set_that_cannot_be_used(
    leave: Callable[..., tuple[int, str]], tmp_path: Path, name: str, message: str
) -> None:
    code, text = leave(TOOL, "--dataset", name, "--output", str(tmp_path))
    assert (code, message in text) == (2, True), text


@pytest.mark.usefixtures("datasets_root")
def test_table_and_json_have_both_tasks(tool: Callable[..., str], tmp_path: Path) -> None:
    options = ["--rounds", 1, "--per-image", 5, "--output", tmp_path]
    out = tool("benchmark_coco", "--dataset", "tiny_scenes_val", *options)
    cases = json.loads((tmp_path / "benchmark.json").read_text())["cases"]
    assert cases.keys() == {"bbox", "segm"}
    assert "pycocotools" in cases["bbox"]
    assert all(line in out for line in (tmp_path / "benchmark.md").read_text().splitlines())


@pytest.mark.slow
def test_by_default_it_takes_the_scenes_of_the_demo(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    process = start(TOOL, "--rounds", 1, "--output", tmp_path)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert (tmp_path / "benchmark.md").is_file()
