from detectron2.model_zoo import get_config

from shakedrop_det.modeling import shaken_stage

from ..common.backbone import shake_resnet
from ..common.optim import clip_gradients

_stock = get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.py")
dataloader, model = _stock.dataloader, _stock.model
lr_multiplier, optimizer, train = _stock.lr_multiplier, _stock.optimizer, _stock.train

shake_resnet(model.backbone, inverted=True)
model.roi_heads.res5.update(_target_=shaken_stage, spec="${...backbone.spec}", last_block=16)
clip_gradients(optimizer)
