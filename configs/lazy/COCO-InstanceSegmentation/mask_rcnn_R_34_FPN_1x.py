from ..common.backbone import use_backbone
from .mask_rcnn_R_50_FPN_1x import dataloader, lr_multiplier, model, optimizer, train

use_backbone("R_34", model=model, dataloader=dataloader, train=train)
