from shakedrop_det import ShakeDropSpec
from shakedrop_det.model_zoo import shake_lazy_model
from shakedrop_det.model_zoo.stock import get_config

_cfg = get_config("new_baselines/mask_rcnn_R_101_FPN_400ep_LSJ.py")
# With the paper's scaling, since it trains from scratch.
shake_lazy_model(_cfg.model, ShakeDropSpec(survival_prob=0.5, inverted=False))
dataloader, model = _cfg.dataloader, _cfg.model
lr_multiplier, optimizer, train = _cfg.lr_multiplier, _cfg.optimizer, _cfg.train
