from shakedrop_det.model_zoo import get_config

_cfg = get_config("lazy/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py", overlays=["R_101"])
dataloader, model = _cfg.dataloader, _cfg.model
lr_multiplier, optimizer, train = _cfg.lr_multiplier, _cfg.optimizer, _cfg.train
