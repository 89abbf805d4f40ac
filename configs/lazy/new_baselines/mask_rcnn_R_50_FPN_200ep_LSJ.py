from shakedrop_det.model_zoo.lazy_overlays import put_under_shakedrop
from shakedrop_det.model_zoo.stock import get_config

_cfg = get_config("new_baselines/mask_rcnn_R_50_FPN_200ep_LSJ.py")
put_under_shakedrop(_cfg.model)  # in the paper's form, as it trains from scratch
dataloader, model = _cfg.dataloader, _cfg.model
lr_multiplier, optimizer, train = _cfg.lr_multiplier, _cfg.optimizer, _cfg.train
