"""A checkpoint keeps the names and ids of its classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from torch import nn

from shakedrop_det import add_training_config
from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.checkpoint.classes import (
    CLASSES,
    check_classes_of_weights,
    check_number_of_classes,
    checked_classes,
    classes_of,
)

NAME = "test_classes"


@pytest.fixture
def cfg() -> Iterator[CfgNode]:
    """Of a training set with classes of the ids 9 and 5, in this order."""
    cfg = get_cfg()
    add_training_config(cfg)
    cfg.DATASETS.TRAIN = (NAME,)
    ids = {5: 1, 9: 0}
    MetadataCatalog.get(NAME).set(
        thing_classes=["dog", "cat"], thing_dataset_id_to_contiguous_id=ids
    )
    yield cfg
    MetadataCatalog.remove(NAME)


def test_a_file_has_the_classes_of_the_training_set(cfg: CfgNode, tmp_path: Path) -> None:
    Checkpointer(nn.Linear(1, 1), str(tmp_path), cfg=cfg).save("weights")
    content = torch.load(tmp_path / "weights.pth", weights_only=True)
    assert content[CLASSES] == {"names": ["dog", "cat"], "ids": [9, 5]}
    assert checked_classes(content[CLASSES], source="weights.pth") == content[CLASSES]


def test_nothing_is_claimed_of_unknown_data(cfg: CfgNode) -> None:
    cfg.DATASETS.TRAIN = ("never_registered",)
    assert classes_of(cfg) is None
    assert "never_registered" not in MetadataCatalog
    cfg.DATASETS.TRAIN = ()
    assert classes_of(cfg) is None


@pytest.mark.parametrize(
    "content",
    [
        *(3, ["dog"], {"names": ["dog"]}, {"names": "dog", "ids": None}),
        *({"names": ["dog"], "ids": [1, 2]}, {"names": ["dog"], "ids": ["1"]}),
    ],
)
def test_what_is_no_record_of_classes_is_named(content: object) -> None:
    with pytest.raises(ValueError, match="'classes' in 'w.pth' must contain lists of names and"):
        checked_classes(content, source="w.pth")


def test_a_model_has_the_classes_of_its_weights(cfg: CfgNode, tmp_path: Path) -> None:
    """The config of a recipe, rather than of the run, says 80."""
    record = {"names": ["dog", "cat"], "ids": None}
    message = r"ROI_HEADS.NUM_CLASSES is 80, but the weights in 'w.pth' have 2 classes \(dog, cat"
    with pytest.raises(ValueError, match=message):
        check_number_of_classes(record, cfg, source="w.pth")
    Checkpointer(nn.Linear(1, 1), str(tmp_path), cfg=cfg).save("weights")
    used = Checkpointer(nn.Linear(1, 1), cfg=cfg, heads_may_be_missing=False)
    with pytest.raises(ValueError, match="have 2 classes"):
        used.load(str(tmp_path / "weights.pth"))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    check_number_of_classes(record, cfg, source="w.pth")
    check_number_of_classes(None, cfg, source="w.pth")


def test_other_classes_than_the_weights_are_refused(cfg: CfgNode) -> None:
    check_classes_of_weights({"names": ["dog", "cat"], "ids": None}, [NAME], source="w.pth")
    check_classes_of_weights(None, [NAME], source="w.pth")
    with pytest.raises(
        ValueError, match="in another order: number 0 is 'cat' in the first and 'dog'"
    ):
        check_classes_of_weights({"names": ["cat", "dog"], "ids": None}, [NAME], source="w.pth")
    with pytest.raises(
        ValueError, match=r"1 \(cat\) in the first and 2 \(dog, cat\) in the second"
    ):
        check_classes_of_weights({"names": ["cat"], "ids": None}, [NAME], source="w.pth")


def test_a_run_is_not_resumed_with_other_classes(cfg: CfgNode, tmp_path: Path) -> None:
    Checkpointer(nn.Linear(1, 1), str(tmp_path), cfg=cfg, counter=Counter()).save("weights")
    resumed = Checkpointer(nn.Linear(1, 1), str(tmp_path), cfg=cfg, counter=Counter())
    resumed.resume_or_load("", resume=True)
    MetadataCatalog.pop(NAME)
    MetadataCatalog.get(NAME).thing_classes = ["cat", "dog"]
    with pytest.raises(ValueError, match="'dog' in the first and 'cat' in the second. Resume wi"):
        resumed.resume_or_load("", resume=True)


@pytest.mark.parametrize("names, told", [(["cat", "dog"], True), (["cat"], False)])
def test_heads_of_other_classes_are_mentioned_where_they_fit(
    cfg: CfgNode, tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str], told: bool
) -> None:
    Checkpointer(nn.Linear(1, 1), str(tmp_path), cfg=cfg).save("weights")
    MetadataCatalog.pop(NAME)
    MetadataCatalog.get(NAME).thing_classes = names
    with caplog.at_level("WARNING"):
        Checkpointer(nn.Linear(1, 1), cfg=cfg).load(str(tmp_path / "weights.pth"))
    assert ("have to learn the other classes" in caplog.text) == told


class Counter:
    """Something that is saved beside the weights, by which a checkpointer knows a resumed run."""

    def state_dict(self) -> dict[str, int]:
        return {"steps": 1}

    def load_state_dict(self, state: dict[str, int]) -> None:
        assert state == {"steps": 1}
