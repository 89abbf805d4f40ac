from ..common.backbone import use_backbone
from .keypoint_rcnn_R_50_FPN_1x import dataloader, lr_multiplier, model, optimizer, train

use_backbone("X_101_32x8d", model=model, dataloader=dataloader, train=train)
