from shakedrop_det.model_zoo.stock import get_config

from .faster_rcnn_R_152_FPN_1x import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_3x
train.max_iter = 270000
