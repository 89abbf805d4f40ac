"""Mask R-CNN R18-FPN of the model zoo on scenes of digits, small enough for a CPU."""

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from shakedrop_det import model_zoo

_cfg = model_zoo.get_config("lazy/COCO-InstanceSegmentation/mask_rcnn_R_18_FPN_1x.py")
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
model.backbone.bottom_up.stages.norm = model.backbone.bottom_up.stem.norm = "BN"
model.backbone.bottom_up.spec.survival_prob = 0.2
model.roi_heads.num_classes = 10
model.roi_heads.box_head.fc_dims = [64]
model.roi_heads.box_predictor.input_shape.channels = 64
model.roi_heads.mask_head.conv_dims = [16, 16]
model.proposal_generator.update(pre_nms_topk=(50, 50), post_nms_topk=(20, 20))
optimizer.lr = 1e-3
train.update(init_checkpoint="", max_iter=2, eval_period=2, log_period=1, device="cpu")
