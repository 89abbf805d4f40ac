"""Detectors and classifiers around the backbone."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch.nn import functional as F

from shakedrop_det import shake
from shakedrop_det.modeling import ShakeDropRes5ROIHeads, ShakenBlock, ShakenBottleneckBlock

from ..paper_form import paper_form


def blocks(module) -> list[ShakenBlock]:
    return [m for m in module.modules() if isinstance(m, ShakenBlock)]


def test_the_res5_head_of_a_c4_detector_continues_the_schedule(tiny) -> None:
    cfg = tiny("c4", "MODEL.SHAKEDROP.SURVIVAL_PROB", 0.2)
    model = build_model(cfg)
    res5 = model.roi_heads.res5
    assert [type(b) for b in res5] == [ShakenBottleneckBlock] * 3
    probs = [b.survival_prob for b in [*blocks(model.backbone), *res5]]
    assert probs == pytest.approx([1 - i / 16 * 0.8 for i in range(1, 17)])


def test_the_res5_head_is_perturbed_in_training_region_by_region(tiny) -> None:
    options = ["MODEL.SHAKEDROP.ALPHA", [-1.0, 1.0], "MODEL.SHAKEDROP.SURVIVAL_PROB", 0.0]
    res5 = build_model(tiny("c4", *options)).roi_heads.res5.train()
    regions = torch.randn(1, res5[0].in_channels, 4, 4).expand(5, -1, -1, -1)
    for block in res5:
        block.survival_prob = 0.0
    torch.manual_seed(0)
    out = res5(regions)
    assert len({o.sum().item() for o in out}) == 5


@pytest.mark.parametrize(
    "builder", ["build_shakedrop_resnet_backbone", "build_shakedrop_resnet_cifar_stem_backbone"]
)
def test_the_stock_res5_head_is_refused_with_the_remedy(tiny, builder) -> None:
    cfg = tiny("c4", "MODEL.ROI_HEADS.NAME", "Res5ROIHeads", "MODEL.BACKBONE.NAME", builder)
    with pytest.raises(ValueError, match="set it to 'ShakeDropRes5ROIHeads'"):
        build_model(cfg)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_res5_head_begins_as_the_identity_like_the_backbone(tiny, enabled) -> None:
    options = ["MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0]
    options += ["MODEL.RESNETS.ZERO_INIT_RESIDUAL", True, "MODEL.SHAKEDROP.ENABLED", enabled]
    model = build_model(tiny("c4", *options))
    norms = [b.conv3.norm.weight for b in model.modules() if isinstance(b, BottleneckBlock)]
    assert len(norms) == 16 and not any(weight.any() for weight in norms)


@pytest.mark.parametrize("freeze_at, blocks", [(2, 10), (4, 3)])
def test_frozen_norms_of_a_c4_detector_are_warned_of_once(tiny, freeze_at, blocks) -> None:
    options = ["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.BACKBONE.FREEZE_AT", freeze_at]
    model = build_model(tiny("c4", *options, "SOLVER.CLIP_GRADIENTS.ENABLED", False))
    (advice,) = [m.advice for m in model.modules() if getattr(m, "advice", "")]
    assert f"perturbs {blocks} blocks that end in FrozenBatchNorm2d" in advice


def test_a_config_without_the_keys_says_how_to_add_them() -> None:
    with pytest.raises(ValueError, match=r"call shakedrop_det.add_shakedrop_config\(cfg\)"):
        ShakeDropRes5ROIHeads._build_res5_block(get_cfg())


def test_a_whole_detector_can_be_shaken_by_one_call(tiny) -> None:
    cfg = tiny("c4", "MODEL.SHAKEDROP.ENABLED", False)
    model = shake(build_model(cfg), paper_form(survival_prob=0.2))
    assert [b.survival_prob for b in blocks(model)] == pytest.approx(
        [1 - i / 16 * 0.8 for i in range(1, 17)]
    )


class TestImageClassifier:
    def batch(self, count: int = 4) -> list[dict]:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
        return [{"image": image, "label": i % 3} for i, image in enumerate(pixels)]

    def test_the_loss_is_cross_entropy_of_the_normalized_images(self, tiny) -> None:
        model = build_model(tiny("classifier")).eval()
        torch.nn.init.normal_(model.linear.weight)  # as initialized, all classes are nearly alike
        pixels = torch.stack([x["image"] for x in self.batch()]).float()
        mean, std = model.pixel_mean[None], model.pixel_std[None]
        logits = model.logits((pixels - mean) / std)
        scores = [out["scores"] for out in model(self.batch())]
        torch.testing.assert_close(torch.stack(scores), logits.softmax(dim=1))
        model.train()
        with torch.no_grad():
            torch.manual_seed(0)
            loss = model(self.batch())["loss_cls"]
            torch.manual_seed(0)
            expected = F.cross_entropy(
                model.logits((pixels - mean) / std), torch.tensor([0, 1, 2, 0])
            )
        torch.testing.assert_close(loss, expected)

    def test_its_keys_are_those_of_a_detector_with_fpn(self, tiny) -> None:
        keys = set(build_model(tiny("classifier")).state_dict())
        detector = set(build_model(tiny("mask_rcnn")).state_dict())
        assert {k for k in keys if k not in detector} == {"linear.weight", "linear.bias"}
        assert {k for k in detector if k.startswith("backbone.bottom_up.")} <= keys

    @pytest.mark.parametrize(
        "builder", ["build_shakedrop_resnet_backbone", "build_shakedrop_resnet_fpn_backbone"]
    )
    def test_it_takes_a_backbone_with_or_without_fpn(self, tiny, builder) -> None:
        model = build_model(tiny("classifier", "MODEL.BACKBONE.NAME", builder))
        assert model.eval()(self.batch())[0]["scores"].shape == (10,)

    def test_a_feature_map_that_is_not_there_is_named_with_those_that_are(self, tiny) -> None:
        cfg = tiny("classifier", "MODEL.IMAGE_CLASSIFIER.IN_FEATURE", "res6")
        with pytest.raises(ValueError, match="IN_FEATURE 'res6' is not a feature map.*res5"):
            build_model(cfg)
