from detectron2.model_zoo import get_config

from ..common.backbone import shake_resnet
from ..common.optim import clip_gradients

_stock = get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
dataloader, model = _stock.dataloader, _stock.model
lr_multiplier, optimizer, train = _stock.lr_multiplier, _stock.optimizer, _stock.train

shake_resnet(model.backbone.bottom_up, inverted=True)

for _key in ("mask_in_features", "mask_pooler", "mask_head"):
    del model.roi_heads[_key]
dataloader.train.mapper.use_instance_mask = False
clip_gradients(optimizer)
