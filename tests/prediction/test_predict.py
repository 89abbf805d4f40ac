"""Predictions for files: those of an evaluation, drawn and written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.detection_utils import read_image
from PIL import Image
from pycocotools.coco import COCO
from torch import nn

from shakedrop_det.data import ClassificationMapper
from shakedrop_det.engine import Trainer, evaluate
from shakedrop_det.modeling import ShakenBlock
from shakedrop_det.prediction import Predictor, predict
from shakedrop_det.prediction.predictor import set_confidence
from shakedrop_det.utils.reading import UnreadableImageError

Trained = Callable[..., CfgNode]
pytestmark = pytest.mark.usefixtures("clean_logging")


def shaken(model: nn.Module) -> int:
    return sum(isinstance(module, ShakenBlock) for module in model.modules())


@pytest.mark.parametrize("name", ["mask_rcnn", "c4", "classifier"])
def test_folded_network_predicts_the_same(trained: Trained, scenes: list[Path], name: str) -> None:
    cfg = trained(name)
    image = read_image(str(scenes[0]), format="BGR")
    folded, unfolded = Predictor(cfg), Predictor(cfg, folded=False)
    assert (shaken(folded.model), shaken(unfolded.model)) == (0, 16)
    found, expected = folded(image), unfolded(image)
    if name == "classifier":
        torch.testing.assert_close(found["scores"], expected["scores"])
        return
    found, expected = found["instances"], expected["instances"]
    assert len(expected) > 0
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        found.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=1e-4, atol=1e-3
    )


def test_stock_network_is_left_as_it_is(trained: Trained) -> None:
    cfg = trained("retinanet", "MODEL.SHAKEDROP.ENABLED", False)
    assert Predictor(cfg).model.backbone is not None


def test_results_are_those_of_an_evaluation(
    trained: Trained, scenes: list[Path], tmp_path: Path
) -> None:
    cfg = trained("mask_rcnn")
    evaluate(cfg)
    path = Path(cfg.OUTPUT_DIR, "inference", "coco_instances_results.json")
    expected = json.loads(path.read_text())
    assert expected
    done = predict(cfg, [str(path) for path in scenes], tmp_path / "out", folded=False)
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    # Scenes are numbered from 1, as files that are predicted for.
    assert found == expected
    assert (done.num_images, done.num_results, done.skipped) == (4, len(expected), [])

    info = COCO(tmp_path / "out" / "image_info.json")
    results = info.loadRes(str(tmp_path / "out" / "results.json"))
    assert len(results.getAnnIds()) == len(expected)
    assert [image["file_name"] for image in info.loadImgs(info.getImgIds())] == [
        str(path) for path in scenes
    ]
    assert [c["name"] for c in info.loadCats(info.getCatIds())] == [str(i) for i in range(10)]


def test_category_ids_are_those_of_the_data_set(
    trained: Trained, scenes: list[Path], tmp_path: Path
) -> None:
    metadata = MetadataCatalog.get("predicted_for")
    try:
        metadata.thing_classes = [f"kind {i}" for i in range(10)]
        metadata.thing_dataset_id_to_contiguous_id = {7 * i + 3: i for i in range(10)}
        # Of a file that does not tell its classes.
        cfg = trained("mask_rcnn", "DATASETS.TRAIN", (), "DATASETS.TEST", ("predicted_for",))
        predict(cfg, [str(scenes[0])], tmp_path / "out")
        results = json.loads((tmp_path / "out" / "results.json").read_text())
        assert {result["category_id"] % 7 for result in results} == {3}
        info = COCO(tmp_path / "out" / "image_info.json")
        assert info.loadCats([3, 66])[1]["name"] == "kind 9"
    finally:
        MetadataCatalog.remove("predicted_for")


@pytest.mark.parametrize("is_there", [True, False])
def test_category_ids_of_a_data_set_that_nobody_loaded(
    trained: Trained, scenes: list[Path], tmp_path: Path, is_there: bool
) -> None:
    annotations = tmp_path / "annotations.json"
    categories = [{"id": 7 * i + 3, "name": f"kind {i}"} for i in range(10)]
    if is_there:
        content = {"images": [], "annotations": [], "categories": categories}
        annotations.write_text(json.dumps(content))
    register_coco_instances("not_loaded", {}, str(annotations), str(tmp_path))
    try:
        cfg = trained("mask_rcnn", "DATASETS.TRAIN", (), "DATASETS.TEST", ("not_loaded",))
        predict(cfg, [str(scenes[0])], tmp_path / "out")
    finally:
        DatasetCatalog.remove("not_loaded")
        MetadataCatalog.remove("not_loaded")
    info = json.loads((tmp_path / "out" / "image_info.json").read_text())
    numbers = [{"id": i + 1, "name": str(i)} for i in range(10)]
    assert info["categories"] == (categories if is_there else numbers)


def test_pictures_and_skipped_files(trained: Trained, scenes: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(scenes[0], folder / "a.png")
    (folder / "broken.png").write_bytes(scenes[0].read_bytes()[:900])
    (folder / "film.mp4").write_text("no film")
    Image.new("RGB", (3000, 1)).save(folder / "thin.png")
    Image.new("I;16", (64, 64)).save(folder / "deep.png")
    other = tmp_path / "other"
    other.mkdir()
    Image.open(scenes[1]).save(other / "a.png")
    done = predict(trained("mask_rcnn"), [str(folder), str(other)], tmp_path / "out")
    assert done.num_images == 2
    assert [reason.split(" (")[0].split(":")[0] for reason in done.skipped] == [
        f"cannot read image {folder}/broken.png",
        f"cannot read image {folder}/deep.png",  # Its values would be cut at 255.
        f"cannot read image {folder}/thin.png",  # Smaller, it has no pixel left.
        f"cannot read video {folder}/film.mp4",
    ]
    assert all(reason.count("cannot read") == 1 for reason in done.skipped)
    drawn = tmp_path / "out" / "drawn"
    assert sorted(path.name for path in drawn.iterdir()) == ["a.png", "a_2.png"]
    for name, scene in (("a.png", scenes[0]), ("a_2.png", scenes[1])):
        picture = np.asarray(Image.open(drawn / name).convert("RGB"))
        assert picture.shape == (384, 384, 3)  # three times as large, to be readable
        middle = picture[1::3, 1::3].astype(int)
        assert np.abs(middle - np.asarray(Image.open(scene))).mean() > 1  # something was drawn


def test_files_that_are_read_are_not_overwritten(
    trained: Trained, scenes: list[Path], tmp_path: Path
) -> None:
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    mine = Path(shutil.copy(scenes[0], drawn / "mine.png"))
    predict(trained("classifier"), [str(drawn)], tmp_path)
    assert mine.read_bytes() == scenes[0].read_bytes()
    assert sorted(path.name for path in drawn.iterdir()) == ["mine.png", "mine_2.png"]


def test_what_is_not_sure_enough_is_left_out(
    trained: Trained, scenes: list[Path], tmp_path: Path
) -> None:
    cfg = trained("mask_rcnn")
    set_confidence(cfg, 1.0)
    done = predict(cfg, [str(scenes[0])], tmp_path / "out")
    assert done.num_results == 0
    picture = np.asarray(Image.open(tmp_path / "out" / "drawn" / scenes[0].name).convert("RGB"))
    difference = picture[1::3, 1::3].astype(int) - np.asarray(Image.open(scenes[0]))
    assert np.abs(difference).max() <= 3
    with pytest.raises(ValueError, match="--confidence must be in .0, 1., got 80"):
        set_confidence(cfg, 80)


@pytest.mark.parametrize("architecture", ["GeneralizedRCNN", "SemanticSegmentor", "PanopticFPN"])
def test_a_data_set_without_names_of_all_classes(
    trained: Trained, scenes: list[Path], video: Path, tmp_path: Path, architecture: str
) -> None:
    head = ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3, "MODEL.SEM_SEG_HEAD.NORM", "BN"]
    few = "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 0.05
    metadata = MetadataCatalog.get("few_names")
    try:
        metadata.thing_classes = ["ball"]
        options = ["DATASETS.TEST", ("few_names",), "MODEL.META_ARCHITECTURE", architecture]
        cfg = trained("mask_rcnn", *options, *head, *few)
        done = predict(cfg, [str(scenes[0]), str(video)], tmp_path / "out")
    finally:
        MetadataCatalog.remove("few_names")
    assert (done.num_images, done.num_frames) == (1, 5)
    assert len(list((tmp_path / "out" / "drawn").iterdir())) == 2


def test_classifier(trained: Trained, scenes: list[Path], tmp_path: Path) -> None:
    cfg = trained("classifier")
    predict(cfg, [str(scenes[0])], tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    mapped = ClassificationMapper(cfg, False)({"file_name": str(scenes[0]), "label": 0})
    model = Trainer.build_model(cfg).eval()
    model.load_state_dict(torch.load(cfg.MODEL.WEIGHTS, weights_only=True)["model"])
    with torch.no_grad():
        scores = model([mapped])[0]["scores"].numpy()
    best = np.argsort(-scores)[:5]
    assert [result["category_id"] - 1 for result in results] == best.tolist()
    assert [result["score"] for result in results] == pytest.approx(scores[best].tolist(), rel=1e-3)
    picture = Image.open(tmp_path / "out" / "drawn" / scenes[0].name)
    assert picture.height > picture.width


@pytest.mark.parametrize(
    "options, message",
    [
        (["MODEL.META_ARCHITECTURE", "ProposalNetwork"], "'ProposalNetwork' outputs proposals"),
        (
            ["MODEL.LOAD_PROPOSALS", True, "MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"],
            "MODEL.LOAD_PROPOSALS True: the model needs the proposals of a dataset",
        ),
    ],
)
def test_models_that_an_image_alone_is_not_for(
    trained: Trained, scenes: list[Path], tmp_path: Path, options: list[object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        predict(trained("mask_rcnn", *options), [str(scenes[0])], tmp_path / "out")


def test_no_file_can_be_read(trained: Trained, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    with pytest.raises(UnreadableImageError, match=f"no file could be read: .*{broken}"):
        predict(trained("retinanet"), [str(broken)], tmp_path / "out")
