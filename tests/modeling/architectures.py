"""Narrow versions of detectron2's detectors and segmenters, in pairs, and something to feed them.

The stock model of a pair is built from detectron2's model zoo, the other from ours, and both are
narrowed alike.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.backbone.resnet import BottleneckBlock
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.point_rend import add_pointrend_config
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from torch import nn

from shakedrop_det import model_zoo
from shakedrop_det.model_zoo import stock as stock_zoo

try:
    import panopticapi  # noqa: F401
except ImportError:
    # Not on PyPI. Panoptic-DeepLab takes one function from it, to read datasets: it can do without
    # for as long as its own modules are imported.
    _absent = {name: types.ModuleType(name) for name in ("panopticapi", "panopticapi.utils")}
    _absent["panopticapi.utils"].rgb2id = None  # type: ignore[attr-defined]
    sys.modules.update(_absent)
    from detectron2.projects import panoptic_deeplab

    for _name in _absent:
        del sys.modules[_name]
else:
    from detectron2.projects import panoptic_deeplab

CLASSES = 3
SIZE = 64

NARROW: list[Any] = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.WIDTH_PER_GROUP", 4),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 8, "MODEL.FPN.OUT_CHANNELS", 16),
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 50, "MODEL.RPN.PRE_NMS_TOPK_TEST", 50),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 20, "MODEL.RPN.POST_NMS_TOPK_TEST", 10),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 16, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
    *("MODEL.ROI_HEADS.NUM_CLASSES", CLASSES, "MODEL.RETINANET.NUM_CLASSES", CLASSES),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.RETINANET.SCORE_THRESH_TEST", 0.0),
    *("MODEL.RETINANET.NUM_CONVS", 1, "MODEL.ROI_BOX_HEAD.FC_DIM", 16),
    *("MODEL.RETINANET.TOPK_CANDIDATES_TEST", 20, "TEST.DETECTIONS_PER_IMAGE", 5),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 8, "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [8]),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", CLASSES, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 16),
    *("MODEL.SEM_SEG_HEAD.NORM", "", "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 16),
    *("TEST.AUG.MIN_SIZES", (48, SIZE), "TEST.AUG.MAX_SIZE", 128),
]


@dataclass(frozen=True)
class Architecture:
    """A meta-architecture and its heads, as a pair of equal models.

    Attributes:
        config: name in both model zoos.
        prepare: adds the keys of a project of detectron2 to a config.
        options: beyond ``NARROW``.
        builders: the stock backbone and ours, if not those of the two configs.
        tta: whether detectron2 has test-time augmentation for it.
    """

    config: str
    prepare: Callable[[CfgNode], None] = lambda cfg: None
    options: Sequence[Any] = ()
    builders: tuple[str, str] | None = None
    tta: bool = False

    def cfg(self, *, stock: bool, **shakedrop: Any) -> CfgNode:
        cfg = (stock_zoo if stock else model_zoo).get_config(self.config)
        self.prepare(cfg)
        cfg.merge_from_list([*NARROW, *self.options])
        if self.builders:
            cfg.MODEL.BACKBONE.NAME = self.builders[0 if stock else 1]
        for key, value in shakedrop.items():
            cfg.MODEL.SHAKEDROP[key.upper()] = value
        return cfg

    def stock(self) -> nn.Module:
        torch.manual_seed(0)
        return damped(build_model(self.cfg(stock=True)))

    def shaken(self, **shakedrop: Any) -> nn.Module:
        return build_model(self.cfg(stock=False, **shakedrop))


@dataclass(frozen=True)
class LazyArchitecture:
    """The same for models that only lazy configs build; not narrowed but for the FPN."""

    config: str
    tta: bool = False

    def _build(self, model: Any) -> nn.Module:
        model.backbone.out_channels = model.backbone.top_block.in_channels = 16
        model.update(num_classes=CLASSES, test_score_thresh=0.0, max_detections_per_image=5)
        model.head.update(input_shape=[ShapeSpec(channels=16)] * 5, conv_dims=[16], norm="")
        return instantiate(model)

    def stock(self) -> nn.Module:
        torch.manual_seed(0)
        return damped(self._build(stock_zoo.get_config(self.config).model))

    def shaken(self, **shakedrop: Any) -> nn.Module:
        model = model_zoo.get_config(f"lazy/{self.config}").model
        model.backbone.bottom_up.spec.update(shakedrop)
        return self._build(model)


def damped(model: nn.Module) -> nn.Module:
    """Let features stay of one size through the depth, without statistics of a training."""
    for module in model.modules():
        if isinstance(module, BottleneckBlock):
            nn.init.constant_(module.conv3.norm.weight, 0.2)
    return model


MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
SEMANTIC = "Misc/semantic_R_50_FPN_1x.yaml"
POINT_REND_MASK = [
    *("MODEL.ROI_HEADS.NAME", "PointRendROIHeads", "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", True),
    *("MODEL.ROI_MASK_HEAD.NAME", "PointRendMaskHead", "MODEL.ROI_MASK_HEAD.FC_DIM", 16),
    *("MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION", 7, "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", True),
    *("MODEL.ROI_MASK_HEAD.POOLER_TYPE", "", "MODEL.POINT_HEAD.NUM_CLASSES", CLASSES),
    *("MODEL.POINT_HEAD.FC_DIM", 8, "MODEL.POINT_HEAD.SUBDIVISION_STEPS", 2),
]
DEEPLAB_BUILDERS = ("build_resnet_deeplab_backbone", "build_shakedrop_resnet_deeplab_backbone")
DEEPLAB = [
    *("MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 16, "MODEL.SEM_SEG_HEAD.ASPP_DILATIONS", [1, 2, 3]),
    *("MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS", [8], "MODEL.RESNETS.RES5_MULTI_GRID", [1, 2, 4]),
]
PANOPTIC_DEEPLAB = [
    *("MODEL.META_ARCHITECTURE", "PanopticDeepLab", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 19),
    *("MODEL.SEM_SEG_HEAD.NAME", "PanopticDeepLabSemSegHead"),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res2", "res3", "res5"]),
    *("MODEL.SEM_SEG_HEAD.PROJECT_FEATURES", ["res2", "res3"]),
    *("MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS", [4, 8], "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 8),
    *("MODEL.SEM_SEG_HEAD.ASPP_DILATIONS", [1, 2, 3], "MODEL.SEM_SEG_HEAD.HEAD_CHANNELS", 8),
    *("MODEL.INS_EMBED_HEAD.PROJECT_CHANNELS", [4, 8], "MODEL.INS_EMBED_HEAD.ASPP_CHANNELS", 8),
    *("MODEL.INS_EMBED_HEAD.ASPP_DILATIONS", [1, 2, 3], "MODEL.INS_EMBED_HEAD.NORM", ""),
    *("MODEL.INS_EMBED_HEAD.CONVS_DIM", 8, "MODEL.INS_EMBED_HEAD.HEAD_CHANNELS", 8),
    *("MODEL.PANOPTIC_DEEPLAB.STUFF_AREA", 16),
    *("DATASETS.TRAIN", ("cityscapes_fine_panoptic_train",)),
]

ARCHITECTURES: dict[str, Architecture | LazyArchitecture] = {
    "faster_rcnn": Architecture("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", tta=True),
    "mask_rcnn": Architecture(MASK_RCNN, tta=True),
    "cascade": Architecture("Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml", tta=True),
    "keypoint": Architecture("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml"),
    "faster_c4": Architecture("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml", tta=True),
    "mask_c4": Architecture("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml", tta=True),
    "faster_dc5": Architecture("COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml", tta=True),
    "mask_dc5": Architecture("COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x.yaml", tta=True),
    "rpn_fpn": Architecture("COCO-Detection/rpn_R_50_FPN_1x.yaml"),
    "rpn_c4": Architecture("COCO-Detection/rpn_R_50_C4_1x.yaml"),
    "fast_rcnn": Architecture("COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml"),
    "retinanet": Architecture("COCO-Detection/retinanet_R_50_FPN_1x.yaml"),
    "fcos": LazyArchitecture("COCO-Detection/fcos_R_50_FPN_1x.py"),
    "panoptic_fpn": Architecture("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml"),
    "semantic_fpn": Architecture(SEMANTIC),
    "point_rend": Architecture(MASK_RCNN, add_pointrend_config, POINT_REND_MASK, tta=True),
    "implicit_point_rend": Architecture(
        MASK_RCNN,
        add_pointrend_config,
        [
            *POINT_REND_MASK,
            *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
            *("MODEL.ROI_MASK_HEAD.NAME", "ImplicitPointRendMaskHead"),
            *("MODEL.POINT_HEAD.NAME", "ImplicitPointHead"),
        ],
        tta=True,
    ),
    "semantic_point_rend": Architecture(
        SEMANTIC,
        add_pointrend_config,
        [
            *("MODEL.SEM_SEG_HEAD.NAME", "PointRendSemSegHead"),
            *("MODEL.POINT_HEAD.NUM_CLASSES", CLASSES, "MODEL.POINT_HEAD.FC_DIM", 8),
            *("MODEL.POINT_HEAD.SUBDIVISION_STEPS", 2, "MODEL.POINT_HEAD.TRAIN_NUM_POINTS", 16),
        ],
    ),
    "deeplab_v3": Architecture(
        SEMANTIC,
        add_deeplab_config,
        [
            *DEEPLAB,
            *(
                "MODEL.SEM_SEG_HEAD.NAME",
                "DeepLabV3Head",
                "MODEL.SEM_SEG_HEAD.IN_FEATURES",
                ["res5"],
            ),
            *("MODEL.RESNETS.RES4_DILATION", 2, "MODEL.RESNETS.RES5_DILATION", 4),
            *("MODEL.SEM_SEG_HEAD.COMMON_STRIDE", 8),
        ],
        DEEPLAB_BUILDERS,
    ),
    "deeplab_v3_plus": Architecture(
        SEMANTIC,
        add_deeplab_config,
        [
            *DEEPLAB,
            *("MODEL.SEM_SEG_HEAD.NAME", "DeepLabV3PlusHead"),
            *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res2", "res5"]),
            *("MODEL.RESNETS.RES5_DILATION", 2),
        ],
        DEEPLAB_BUILDERS,
    ),
    "panoptic_deeplab": Architecture(
        SEMANTIC, panoptic_deeplab.add_panoptic_deeplab_config, PANOPTIC_DEEPLAB, DEEPLAB_BUILDERS
    ),
}


def inputs(*, targets: bool) -> list[dict[str, Any]]:
    """Two images with two rectangles each, for every kind of task at once."""
    generator = torch.Generator().manual_seed(3)
    batch = []
    for left in (4, 20):
        boxes = torch.tensor([[left, 6, left + 24, 40], [left + 12, 20, left + 40, 60]]).float()
        image = torch.randint(0, 256, (3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
        example: dict[str, Any] = {"image": image, "height": SIZE, "width": SIZE}
        proposals = torch.rand(12, 4, generator=generator) * SIZE / 2
        proposals[:, 2:] += proposals[:, :2] + 4
        example["proposals"] = Instances(
            (SIZE, SIZE),
            proposal_boxes=Boxes(proposals),
            objectness_logits=torch.rand(12, generator=generator),
        )
        if targets:
            example.update(_targets(boxes))
        batch.append(example)
    return batch


def _targets(boxes: torch.Tensor) -> dict[str, Any]:
    masks = torch.zeros(len(boxes), SIZE, SIZE, dtype=torch.bool)
    keypoints = torch.full((len(boxes), 17, 3), 2.0)  # 2: labelled and visible
    for mask, points, box in zip(masks, keypoints, boxes.int().tolist(), strict=True):
        x0, y0, x1, y1 = box
        mask[y0:y1, x0:x1] = True
        points[:, 0] = torch.linspace(x0 + 1, x1 - 1, 17)
        points[:, 1] = torch.linspace(y0 + 1, y1 - 1, 17)
    instances = Instances(
        (SIZE, SIZE),
        gt_boxes=Boxes(boxes),
        gt_classes=torch.arange(len(boxes)),
        gt_masks=BitMasks(masks),
        gt_keypoints=Keypoints(keypoints),
    )
    sem_seg = masks[0].long() + 2 * (masks[1] & ~masks[0]).long()
    return {"instances": instances, "sem_seg": sem_seg, **_panoptic_deeplab_targets(sem_seg)}


def _panoptic_deeplab_targets(sem_seg: torch.Tensor) -> dict[str, Any]:
    segments = [
        {"id": number, "category_id": number, "iscrowd": 0}
        for number in range(int(sem_seg.max()) + 1)
    ]
    generator = panoptic_deeplab.target_generator.PanopticDeepLabTargetGenerator(
        ignore_label=255, thing_ids=[1, 2], sigma=2
    )
    targets = generator(sem_seg.numpy(), segments)
    return {key: value for key, value in targets.items() if key != "sem_seg"}
