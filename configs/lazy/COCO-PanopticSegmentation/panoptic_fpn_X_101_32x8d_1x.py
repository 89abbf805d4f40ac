from ..common.backbone import use_backbone
from .panoptic_fpn_R_50_1x import dataloader, lr_multiplier, model, optimizer, train

use_backbone("X_101_32x8d", model=model, dataloader=dataloader, train=train)
