from ..common.backbone import use_backbone
from .fcos_R_50_FPN_1x import dataloader, lr_multiplier, model, optimizer, train

use_backbone("X_152_32x4d", model=model, dataloader=dataloader, train=train)
