"""A lazy config of the model zoo, by $LAZY_CONFIG, under the overlays of $LAZY_OVERLAYS, on digit
scenes and short enough for a CPU."""

import os

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from shakedrop_det import model_zoo

_overlays = os.environ["LAZY_OVERLAYS"].split()
_cfg = model_zoo.get_config(f"lazy/{os.environ['LAZY_CONFIG']}", overlays=_overlays)
dataloader, model, train = _cfg.dataloader, _cfg.model, _cfg.train
lr_multiplier, optimizer = _cfg.lr_multiplier, _cfg.optimizer

dataloader.train.dataset.names = "digit_scenes_train"
dataloader.test.dataset.names = "digit_scenes_val"
dataloader.train.mapper.augmentations = dataloader.test.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length=64, max_size=64)
]
dataloader.train.mapper.instance_mask_format = "bitmask"
dataloader.train.total_batch_size = 2
dataloader.train.num_workers = dataloader.test.num_workers = 0
_resnet = model.backbone.get("bottom_up", model.backbone)
_resnet.stages.norm = _resnet.stem.norm = "BN"
_resnet.freeze_at = 0
_resnet.spec.survival_prob = 0.2
model.get("roi_heads", model).num_classes = 10
if "proposal_generator" in model:
    model.proposal_generator.update(pre_nms_topk=(50, 50), post_nms_topk=(20, 20))
optimizer.lr = 1e-3
train.update(init_checkpoint="", max_iter=2, eval_period=2, log_period=1, device="cpu")
