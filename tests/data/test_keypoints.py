"""Keypoints of the model and of the data are the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import Metadata, MetadataCatalog

from shakedrop_det.data.keypoints import check_keypoints, flip_map

NAME = "test_keypoints"


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    names = ["nose", "left_eye", "right_eye"]
    yield MetadataCatalog.get(NAME).set(keypoint_names=names, keypoint_flip_map=flip_map(names))
    MetadataCatalog.remove(NAME)


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.KEYPOINT_ON = True
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 3
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1, 0.1, 0.1]
    return cfg


@pytest.mark.parametrize(
    "left, right",
    [
        ("left_eye", "right_eye"),
        ("eyeLeft", "eyeRight"),
        ("eye_l", "eye_r"),
        ("L eye", "R eye"),
        ("LEFT-EYE", "RIGHT-EYE"),
    ],
)
def test_sides_are_found_in_names(left: str, right: str) -> None:
    assert flip_map([left, "tail", right]) == [(left, right)]


def test_letters_within_words_are_no_sides() -> None:
    assert flip_map(["tail", "tair", "left_eye", "bright_eye"]) == []


@pytest.mark.parametrize("training", [True, False])
def test_what_agrees_passes(cfg: CfgNode, metadata: Metadata, training: bool) -> None:
    check_keypoints(cfg, NAME, training=training)


@pytest.mark.parametrize("sigma", [0.0, -0.1, float("nan")])
def test_sigmas_that_give_no_similarity_are_named(
    cfg: CfgNode, metadata: Metadata, sigma: float
) -> None:
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [sigma, 0.1, 0.1]
    with pytest.raises(ValueError, match="TEST.KEYPOINT_OKS_SIGMAS must be positive"):
        check_keypoints(cfg, NAME, training=False)
    check_keypoints(cfg, NAME, training=True)


def test_all_that_disagrees_is_told_at_once(cfg: CfgNode, metadata: Metadata) -> None:
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 17
    cfg.TEST.KEYPOINT_OKS_SIGMAS = []
    with pytest.raises(ValueError) as error:
        check_keypoints(cfg, NAME, training=False)
    assert "NUM_KEYPOINTS is 17, but dataset 'test_keypoints' has 3" in str(error.value)
    assert "KEYPOINT_OKS_SIGMAS is empty, which means COCO's 17" in str(error.value)
    cfg.MODEL.KEYPOINT_ON = False
    check_keypoints(cfg, NAME, training=False)


@pytest.mark.parametrize(
    "names, pairs, message",
    [
        (None, None, "has no keypoint_names or no keypoint_flip_map"),
        (["a", "b", "c"], None, "has no keypoint_names or no keypoint_flip_map"),
        (["a", "b", "c"], [("a", "d")], "keypoint_flip_map .* has d, not among its keypoint_names"),
        (["nose", "left_eye", "b"], [], "left_eye of dataset .* no counterpart on the other side"),
    ],
)
def test_what_a_mirror_would_spoil(
    cfg: CfgNode,
    metadata: Metadata,
    names: list[str] | None,
    pairs: list[tuple[str, str]] | None,
    message: str,
) -> None:
    del metadata.keypoint_names, metadata.keypoint_flip_map
    given = {"keypoint_names": names, "keypoint_flip_map": pairs}
    metadata.set(**{key: value for key, value in given.items() if value is not None})
    with pytest.raises(ValueError, match=message):
        check_keypoints(cfg, NAME, training=True)


@pytest.mark.parametrize(
    "names, flip", [(["bright_spot", "upright", "corner"], "horizontal"), (["left_ear"], "none")]
)
def test_what_no_mirror_spoils(
    cfg: CfgNode, metadata: Metadata, names: list[str], flip: str
) -> None:
    del metadata.keypoint_names, metadata.keypoint_flip_map
    metadata.set(keypoint_names=names, keypoint_flip_map=flip_map(names))
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = len(names)
    cfg.INPUT.RANDOM_FLIP = flip
    check_keypoints(cfg, NAME, training=True)
