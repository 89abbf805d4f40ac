from detectron2.model_zoo import get_config

from ..common.backbone import shake_resnet
from ..common.optim import clip_gradients

_stock = get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
dataloader, model = _stock.dataloader, _stock.model
lr_multiplier, optimizer, train = _stock.lr_multiplier, _stock.optimizer, _stock.train

shake_resnet(model.backbone.bottom_up, inverted=True)
clip_gradients(optimizer)
