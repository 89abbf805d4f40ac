"""Config keys of this package, and the settings under ``MODEL.SHAKEDROP``."""

from __future__ import annotations

import dataclasses
from typing import Any

from detectron2.config import CfgNode

from shakedrop_det.layers import ShakeDropSpec


def add_shakedrop_config(cfg: CfgNode) -> None:
    """Add the keys of this package's backbones to a detectron2 config, in place.

    They are ``MODEL.SHAKEDROP`` and five keys under ``MODEL.RESNETS``. Existing keys, set by you or
    by another extension, are kept.

    Args:
        cfg: Config from :func:`detectron2.config.get_cfg`.
    """
    _add_absent(cfg, _backbone_keys())


def add_training_config(cfg: CfgNode) -> None:
    """Add the keys of this package's trainer and tools to a detectron2 config, in place.

    They are those of :func:`add_shakedrop_config`, ``MODEL.IMAGE_CLASSIFIER``,
    ``INPUT.CLASSIFICATION``, and some under ``MODEL``, ``DATASETS``, ``DATALOADER``, ``SOLVER`` and
    ``TEST`` that detectron2 lacks. Existing keys are kept.

    Args:
        cfg: Config from :func:`detectron2.config.get_cfg`.
    """
    _add_absent(cfg, _backbone_keys())
    _add_absent(cfg, _training_keys())


def _add_absent(cfg: CfgNode, keys: CfgNode) -> None:
    for key, value in keys.items():
        if key not in cfg:
            cfg[key] = value
        elif isinstance(value, CfgNode) and isinstance(cfg[key], CfgNode):
            _add_absent(cfg[key], value)


def _nodes(*names: str) -> CfgNode:
    root = CfgNode()
    for name in names:
        node = root
        for part in name.split("."):
            node = node.setdefault(part, CfgNode())
    return root


def _backbone_keys() -> CfgNode:
    _C = _nodes("MODEL.SHAKEDROP", "MODEL.RESNETS")
    # False builds the stock network, for comparisons that differ only in this key.
    _C.MODEL.SHAKEDROP.ENABLED = True
    # Range of the uniform coefficient of the residual in the forward pass while the gate is
    # closed. Use [0, 0] if blocks end in a ReLU, as stock ones do; [-1, 1] needs ERASE_RELU.
    _C.MODEL.SHAKEDROP.ALPHA = [0.0, 0.0]
    # Range of the uniform coefficient of the gradient in the backward pass.
    _C.MODEL.SHAKEDROP.BETA = [0.0, 1.0]
    # P_L: the probability that the last residual block is not perturbed in a step.
    # 1.0 never perturbs anything; the paper trains from scratch with 0.5.
    _C.MODEL.SHAKEDROP.SURVIVAL_PROB = 0.9
    # "linear": the probability falls from the first block to P_L at the last.
    # "constant": P_L for each block.
    _C.MODEL.SHAKEDROP.DECAY = "linear"
    # Draw the coefficients once per "batch", "image", "channel" or "pixel".
    _C.MODEL.SHAKEDROP.LEVEL = "image"
    # Draw the gate once per "batch" (as in the paper) or "image".
    _C.MODEL.SHAKEDROP.GATE_LEVEL = "batch"
    # Remove the ReLU after the addition. This changes the function of a pretrained network, so use
    # it only with weights that were trained without that ReLU.
    _C.MODEL.SHAKEDROP.ERASE_RELU = False
    # Divide the training scales by their expectation, so that the test scale is 1: for weights
    # that were trained without ShakeDrop. False is the paper's scaling, for training from scratch
    # and for weights that were trained with it.
    _C.MODEL.SHAKEDROP.INVERTED = True
    # Which branches to skip when they are dropped for the whole batch (BETA [0.0, 0.0]).
    # "exact": those that nothing else depends on. "always": also those with trainable BatchNorm,
    # whose running statistics then include only the steps in which the branch runs.
    _C.MODEL.SHAKEDROP.SKIP = "exact"
    # What to scale in blocks with two branches: "sum", their sum (type A of the paper); "each",
    # each branch with its own scales (type B); or "shake_shake", the branches by a and 1 - a
    # without gates, which needs ALPHA [0.0, 1.0], SURVIVAL_PROB 0.0, DECAY "constant" and INVERTED
    # False.
    _C.MODEL.SHAKEDROP.BRANCHES = "sum"

    # Initialize the weight of the last norm in each residual branch to 0, so that blocks start as
    # the identity. For training from scratch.
    _C.MODEL.RESNETS.ZERO_INIT_RESIDUAL = False
    # Residual block of the networks for CIFAR: "basic", for a DEPTH of 6 n + 2; or "bottleneck",
    # for one of 9 n + 2. n is the number of blocks in each of the three stages.
    _C.MODEL.RESNETS.BLOCK = "basic"
    # Widening factor of a PyramidNet: its last block has this many more channels than its stem
    # (bottlenecks: four times the sum of both).
    _C.MODEL.RESNETS.PYRAMID_ALPHA = 48.0
    # Widening factor of a Wide ResNet, whose DEPTH is 6 n + 4: its stages have 16, 32 and 64 (with
    # STEM_OUT_CHANNELS 16) times this many channels.
    _C.MODEL.RESNETS.WIDEN_FACTOR = 10
    # Whether the residual branches of a Wide ResNet end in a norm, which makes ShakeDrop work
    # there. False gives the original network.
    _C.MODEL.RESNETS.LAST_BRANCH_NORM = True
    return _C


def _training_keys() -> CfgNode:
    _C = _nodes("MODEL.IMAGE_CLASSIFIER", "DATASETS", "DATALOADER")
    _C.update(_nodes("INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT"))
    _C.update(_nodes("SOLVER.AMP", "TEST"))
    # Number of classes of the ImageClassifier meta-architecture.
    _C.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES = 1000
    # Name of the backbone's feature map that is pooled and classified.
    _C.MODEL.IMAGE_CLASSIFIER.IN_FEATURE = "res5"
    # Fraction of each target, in [0, 1), that is spread evenly over all classes.
    _C.MODEL.IMAGE_CLASSIFIER.LABEL_SMOOTHING = 0.0
    # Parameter of the Beta distribution from which mixup and CutMix draw the share of the other
    # image; 0 disables them. If both are enabled, each batch gets one of them at random.
    _C.MODEL.IMAGE_CLASSIFIER.MIXUP_ALPHA = 0.0
    _C.MODEL.IMAGE_CLASSIFIER.CUTMIX_ALPHA = 0.0

    # The size of classification images; detectors use detectron2's own keys.
    # Side of a training image, in pixels.
    _C.INPUT.CLASSIFICATION.TRAIN_SIZE = 224
    # Short side of a resized test image, and side of the center crop taken from it, in pixels.
    _C.INPUT.CLASSIFICATION.TEST_RESIZE = 256
    _C.INPUT.CLASSIFICATION.TEST_SIZE = 224
    # "resized": a crop of random area and aspect ratio, resized, as for ImageNet.
    # "padded": the image padded and cropped at random, as for CIFAR.
    # "none": the center crop.
    _C.INPUT.CLASSIFICATION.CROP = "resized"
    # Smallest and largest fraction of the image's area in a "resized" crop.
    _C.INPUT.CLASSIFICATION.CROP_SCALE = [0.08, 1.0]
    # Black pixels added to each side for a "padded" crop.
    _C.INPUT.CLASSIFICATION.CROP_PADDING = 4
    # Random changes of colour and geometry after crop and flip: "", "autoaugment" (the policy for
    # ImageNet), "autoaugment_cifar10", "randaugment" or "trivialaugment".
    _C.INPUT.CLASSIFICATION.AUTO_AUGMENT = ""
    # Probability that a random rectangle of a training image is replaced by MODEL.PIXEL_MEAN.
    _C.INPUT.CLASSIFICATION.RANDOM_ERASING = 0.0
    # Side, in pixels, of a square in each training image that Cutout sets to MODEL.PIXEL_MEAN; its
    # center is anywhere in the image. 0 disables it.
    _C.INPUT.CLASSIFICATION.CUTOUT = 0

    # Adversarial AutoAugment, after all of the above: a network learns by reinforcement, once per
    # epoch, which augmentation policies increase the training loss.
    # M: number of copies of each batch to train on, each with its own policy. 0 disables it.
    _C.INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT.POLICIES = 0
    # Number of pairs of operations in a policy; each image gets a random one.
    _C.INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT.SUB_POLICIES = 5
    # Learning rate of the policy network, for Adam.
    _C.INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT.BASE_LR = 0.00035
    # Weight of the policies' entropy, in nats, in the objective of the policy network.
    _C.INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT.ENTROPY_WEIGHT = 0.00001

    # What to do with unreadable images of a classification dataset: "error" stops the run; "skip"
    # warns and counts them, and in training, but not in evaluation, replaces them by others.
    _C.DATALOADER.UNREADABLE_IMAGES = "error"
    # Fraction of the training images, in (0, 1], to train on with SAMPLER_TRAIN
    # "RandomSubsetTrainingSampler"; SEED determines which. detectron2 reads but does not define it.
    _C.DATALOADER.RANDOM_SUBSET_RATIO = 1.0

    # Your own data: [name, COCO json, image folder] for each dataset. Use the names in TRAIN
    # and TEST, which also accept "json:folder". If the config has detectron2's default number of
    # classes, it is taken from the json.
    _C.DATASETS.COCO_FILES = []
    # Your own images for a classifier: [name, folder of class folders] for each dataset. Use the
    # names in TRAIN and TEST, which also accept the folder. The number of classes is then taken
    # from it, unless it is given as an option.
    _C.DATASETS.IMAGE_FOLDERS = []
    # Skip unusable images and annotations of COCO files, with a warning that lists them, instead of
    # stopping the run. All test images are then decoded at each start.
    _C.DATASETS.SKIP_BAD_ANNOTATIONS = False

    # Optimizer: "SGD", detectron2's, with SOLVER.MOMENTUM; or "ADAMW".
    _C.SOLVER.OPTIMIZER = "SGD"
    # Lengths in epochs over DATASETS.TRAIN. When training starts, they replace the lengths in
    # iterations: MAX_ITER, WARMUP_ITERS, STEPS, CHECKPOINT_PERIOD and TEST.EVAL_PERIOD. 0.0, or ()
    # for the steps, keeps the iterations. Write them with a decimal point, as in 90.0.
    _C.SOLVER.MAX_EPOCHS = 0.0
    _C.SOLVER.WARMUP_EPOCHS = 0.0
    _C.SOLVER.STEP_EPOCHS = ()
    _C.SOLVER.CHECKPOINT_EPOCHS = 0.0
    _C.TEST.EVAL_EPOCHS = 0.0
    # Implementation of the COCO metrics: "detectron2" (its C++ if built, otherwise pycocotools),
    # "pycocotools", or "faster_coco_eval", an optional package that gives the same numbers.
    _C.TEST.COCO_BACKEND = "detectron2"
    # Also draw precision over recall, and AP by object size, in each COCO evaluation.
    _C.TEST.COCO_PLOTS = False
    # Split each batch of IMS_PER_BATCH images into this many parts, which run one after the other
    # before one optimizer step on the mean of their losses.
    _C.SOLVER.ACCUMULATION_STEPS = 1
    # Precision of SOLVER.AMP: "float16" or "bfloat16". CPUs always use bfloat16.
    _C.SOLVER.AMP.DTYPE = "float16"
    # Decay of an exponential moving average of the weights and statistics, such as 0.9998. It
    # rises to this value, as (1 + n) / (10 + n) in step n. The average is also evaluated (as
    # metrics with "_ema" in their names) and saved as "ema". 0 disables it.
    _C.SOLVER.EMA_DECAY = 0.0
    # Save the weights with the highest value of this metric, such as "classification/top1" or
    # "bbox/AP", as model_best.pth. "" disables this. The file has averaged weights, which are
    # preferred when it is used, only if the metric is theirs, such as "bbox_ema/AP".
    _C.SOLVER.BEST_CHECKPOINT_METRIC = ""
    # Make a resumed run continue as if it had never stopped, on a CPU bit for bit. The random
    # augmentation of an image then depends on its position in the run.
    _C.SOLVER.EXACT_RESUME = True

    # Run the backbone in the channels_last memory format, which is faster on tensor cores.
    _C.MODEL.CHANNELS_LAST = False
    return _C


def spec_from_config(cfg: CfgNode) -> ShakeDropSpec:
    """Return the validated settings under ``MODEL.SHAKEDROP``.

    Raises:
        ValueError: If a value is invalid. The message names the key, the value and what is allowed.
    """
    if "SHAKEDROP" not in cfg.MODEL:
        raise ValueError(
            "MODEL.SHAKEDROP is missing: call shakedrop_det.add_shakedrop_config(cfg) right after "
            "detectron2.config.get_cfg()"
        )
    node = cfg.MODEL.SHAKEDROP
    if not isinstance(node.ENABLED, bool):
        raise ValueError(f"MODEL.SHAKEDROP.ENABLED must be True or False, got {node.ENABLED!r}")
    known = {field.name.upper() for field in dataclasses.fields(ShakeDropSpec)}
    unknown = sorted(node.keys() - known - {"ENABLED"})
    if unknown:
        raise ValueError(
            f"MODEL.SHAKEDROP.{unknown[0]} is not a key of this package: remove it; there are "
            f"ENABLED, {', '.join(sorted(known))}"
        )
    fields: Any = {key.lower(): value for key, value in node.items() if key != "ENABLED"}
    try:
        return ShakeDropSpec(**fields)
    except ValueError as error:
        # Each message begins with the name of the field: replace it by the config's name.
        field, _, rest = str(error).partition(" ")
        raise ValueError(f"MODEL.SHAKEDROP.{field.upper()} {rest}") from None
