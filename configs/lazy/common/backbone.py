"""Put a backbone under ShakeDrop into a lazy model of detectron2."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import ResNet

from shakedrop_det import ShakeDropSpec, model_zoo
from shakedrop_det.modeling import resnext_stages, shaken_resnet


def shake_resnet(resnet, *, inverted):
    """Let a lazy ResNet be built under ShakeDrop; all of its keys stay where they are.

    Args:
        resnet (DictConfig): in place. It gets a key `spec`, so that one may say on the command line
            `model.backbone.bottom_up.spec.survival_prob=0.8`.
        inverted (bool): True for weights that were trained without ShakeDrop.
    """
    resnet._target_ = shaken_resnet
    resnet.spec = L(ShakeDropSpec)(
        alpha=[0.0, 0.0],
        beta=[0.0, 1.0],
        survival_prob=0.9 if inverted else 0.5,
        erase_relu=False,
        inverted=inverted,
    )


def use_backbone(name, *, model, dataloader, train):
    """Exchange the ResNet of a lazy model with FPN, with its weights and pixel conventions.

    Args:
        name (str): of a file in configs/Base-Backbone, such as "R_18".
        model, dataloader, train (DictConfig): in place.
    """
    cfg = model_zoo.get_config(f"Base-Backbone/{name}.yaml")
    resnets = cfg.MODEL.RESNETS
    stages = L(ResNet.make_default_stages)(depth=resnets.DEPTH, norm=resnets.NORM)
    if resnets.DEPTH >= 50:  # basic blocks have no 1x1 convolution
        stages.stride_in_1x1 = resnets.STRIDE_IN_1X1
    if resnets.NUM_GROUPS > 1:
        stages._target_ = resnext_stages
        stages.update(num_groups=resnets.NUM_GROUPS, width_per_group=resnets.WIDTH_PER_GROUP)
    model.backbone.bottom_up.stages = stages
    if model.backbone.top_block.get("in_channels") == 2048:  # of res5
        model.backbone.top_block.in_channels = 8 * resnets.RES2_OUT_CHANNELS

    train.init_checkpoint = cfg.MODEL.WEIGHTS
    model.pixel_mean = cfg.MODEL.PIXEL_MEAN
    model.pixel_std = cfg.MODEL.PIXEL_STD
    if "input_format" in model:
        model.input_format = cfg.INPUT.FORMAT
    dataloader.train.mapper.image_format = cfg.INPUT.FORMAT
