"""The config keys of this package, and the settings under ``MODEL.SHAKEDROP``."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode

from shakedrop_det.layers import ShakeDropSpec


def add_shakedrop_config(cfg: CfgNode) -> None:
    """Add the keys that this package's backbones read to a detectron2 config, in place.

    They are ``MODEL.SHAKEDROP`` and five under ``MODEL.RESNETS``. A key that is there already, set
    by you or by another extension, stays as it is.

    Args:
        cfg: as made by :func:`detectron2.config.get_cfg`.
    """
    _add_absent(cfg, _backbone_keys())


def add_training_config(cfg: CfgNode) -> None:
    """Add the keys of this package's trainer and tools to a detectron2 config, in place.

    They are those of :func:`add_shakedrop_config`, ``MODEL.IMAGE_CLASSIFIER``,
    ``INPUT.CLASSIFICATION``, and some under ``MODEL``, ``DATASETS``, ``DATALOADER``, ``SOLVER`` and
    ``TEST`` that detectron2 lacks. A key that is there already stays as it is.

    Args:
        cfg: as made by :func:`detectron2.config.get_cfg`.
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
    # False gives the stock network, for comparisons that differ in this key alone.
    _C.MODEL.SHAKEDROP.ENABLED = True
    # Range of the uniform coefficient of the residual in the forward pass, where the gate is
    # closed. [0, 0] suits networks with a ReLU at the end of a block (stock ones);
    # [-1, 1] needs ERASE_RELU.
    _C.MODEL.SHAKEDROP.ALPHA = [0.0, 0.0]
    # Range of the uniform coefficient of the gradient in the backward pass.
    _C.MODEL.SHAKEDROP.BETA = [0.0, 1.0]
    # P_L: the probability that the last residual block is not perturbed in a step.
    # 1.0 never perturbs anything.
    _C.MODEL.SHAKEDROP.SURVIVAL_PROB = 0.5
    # "linear": the probability falls from the first block to P_L at the last.
    # "constant": P_L for each block.
    _C.MODEL.SHAKEDROP.DECAY = "linear"
    # What shares a draw of the coefficients: "batch", "image", "channel" or "pixel".
    _C.MODEL.SHAKEDROP.LEVEL = "image"
    # What shares a draw of the gate: "batch" (as in the paper) or "image".
    _C.MODEL.SHAKEDROP.GATE_LEVEL = "batch"
    # Whether to leave out the ReLU after the addition. It changes the function of a pretrained
    # network: use it with weights that were trained so.
    _C.MODEL.SHAKEDROP.ERASE_RELU = False
    # Divide the scales in training by their expectation, so that the scale at test time is 1.
    # For fine-tuning weights that were trained without ShakeDrop.
    _C.MODEL.SHAKEDROP.INVERTED = False
    # When a branch that is dropped for the whole batch (BETA [0.0, 0.0]) is left out of a step:
    # "exact", where nothing else depends on it; "always", also where BatchNorm would have updated
    # its running statistics from it, which then see only the steps in which the branch runs.
    _C.MODEL.SHAKEDROP.SKIP = "exact"
    # In blocks of two branches, what is scaled: "sum", the two together (type A of the paper);
    # "each", by scales of its own (type B); or "shake_shake", by a and 1 - a, without gates, which
    # needs SURVIVAL_PROB 0.0 and DECAY "constant".
    _C.MODEL.SHAKEDROP.BRANCHES = "sum"

    # Whether residual blocks begin as the identity, the weight of their last norm being 0: for
    # training from scratch.
    _C.MODEL.RESNETS.ZERO_INIT_RESIDUAL = False
    # Residual block of the networks for CIFAR: "basic", for a DEPTH of 6 n + 2; or "bottleneck",
    # for one of 9 n + 2. n is the number of blocks in each of the three stages.
    _C.MODEL.RESNETS.BLOCK = "basic"
    # Widening factor of a PyramidNet: its last block has so many channels more than its stem
    # (bottlenecks: four times as many as both together).
    _C.MODEL.RESNETS.PYRAMID_ALPHA = 48.0
    # Widening factor of a Wide ResNet, whose DEPTH is 6 n + 4: what its stages have times as many
    # channels as 16, 32 and 64 (with STEM_OUT_CHANNELS 16).
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
    # Part of each target, in [0, 1), that is spread evenly over all classes.
    _C.MODEL.IMAGE_CLASSIFIER.LABEL_SMOOTHING = 0.0
    # Parameter of the Beta distribution of mixup's, and of CutMix's, share of the other image in
    # training; 0 switches it off. With both, each batch gets one of them at random.
    _C.MODEL.IMAGE_CLASSIFIER.MIXUP_ALPHA = 0.0
    _C.MODEL.IMAGE_CLASSIFIER.CUTMIX_ALPHA = 0.0

    # How classification images become squares of one size; detectors use detectron2's own keys.
    # Side of a training image, in pixels.
    _C.INPUT.CLASSIFICATION.TRAIN_SIZE = 224
    # What the short side of a test image is resized to, and the side of the center crop then.
    _C.INPUT.CLASSIFICATION.TEST_RESIZE = 256
    _C.INPUT.CLASSIFICATION.TEST_SIZE = 224
    # "resized": a crop of random area and aspect ratio, resized, as for ImageNet.
    # "padded": the image padded and cropped at random, as for CIFAR.
    # "none": the center.
    _C.INPUT.CLASSIFICATION.CROP = "resized"
    # Least and greatest part of the image's area in a "resized" crop.
    _C.INPUT.CLASSIFICATION.CROP_SCALE = [0.08, 1.0]
    # Black pixels added to each side for a "padded" crop.
    _C.INPUT.CLASSIFICATION.CROP_PADDING = 4
    # A random chain of changes of colour and geometry, after crop and flip: "", "autoaugment"
    # (ImageNet's policy), "autoaugment_cifar10", "randaugment" or "trivialaugment".
    _C.INPUT.CLASSIFICATION.AUTO_AUGMENT = ""
    # Probability that a random rectangle of a training image is erased, to MODEL.PIXEL_MEAN.
    _C.INPUT.CLASSIFICATION.RANDOM_ERASING = 0.0
    # Side, in pixels, of a square that Cutout erases from each training image, to MODEL.PIXEL_MEAN;
    # its center is anywhere in the image. 0 switches it off.
    _C.INPUT.CLASSIFICATION.CUTOUT = 0

    # Adversarial AutoAugment, after all of the above: a network learns by reinforcement, once in
    # each epoch, which policies of augmentation raise the training loss.
    # M: each batch is trained on in so many copies, each by a policy of its own. 0 switches it off.
    _C.INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT.POLICIES = 0
    # Pairs of operations in a policy, of which each image gets one at random.
    _C.INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT.SUB_POLICIES = 5
    # Learning rate of the policy network, for Adam.
    _C.INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT.BASE_LR = 0.00035
    # Weight of the policies' entropy, in nats, in what the policy network maximizes.
    _C.INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT.ENTROPY_WEIGHT = 0.00001

    # What an image of a classification data set that cannot be read does: "error" stops the run;
    # "skip" warns, counts, and goes on: with another image in training, without it in evaluation.
    _C.DATALOADER.UNREADABLE_IMAGES = "error"
    # With SAMPLER_TRAIN "RandomSubsetTrainingSampler", the part of the training images, in (0, 1],
    # that is trained on; which ones follows from SEED. detectron2 reads this key, and lacks it.
    _C.DATALOADER.RANDOM_SUBSET_RATIO = 1.0

    # Own data: [name, COCO json, folder of its images] for each data set. The names are for TRAIN
    # and TEST, which also take "json:folder" itself. The number of classes is taken from the json
    # where the config leaves it at detectron2's default.
    _C.DATASETS.COCO_FILES = []
    # Whether images and annotations of COCO files that cannot be used are left out, with a warning
    # that lists them, instead of stopping the run.
    _C.DATASETS.SKIP_BAD_ANNOTATIONS = False

    # Optimizer: "SGD", detectron2's, with SOLVER.MOMENTUM; or "ADAMW".
    _C.SOLVER.OPTIMIZER = "SGD"
    # Lengths in epochs, passes over DATASETS.TRAIN, that replace those in iterations when training
    # starts: MAX_ITER, WARMUP_ITERS, STEPS, CHECKPOINT_PERIOD and TEST.EVAL_PERIOD. 0.0, or () for
    # the steps, leaves the iterations as they are. To be written with a point, as in 90.0.
    _C.SOLVER.MAX_EPOCHS = 0.0
    _C.SOLVER.WARMUP_EPOCHS = 0.0
    _C.SOLVER.STEP_EPOCHS = ()
    _C.SOLVER.CHECKPOINT_EPOCHS = 0.0
    _C.TEST.EVAL_EPOCHS = 0.0
    # Who computes COCO's metrics: "detectron2", its C++ where that is built, else pycocotools;
    # "pycocotools"; or "faster_coco_eval", an optional package, with the numbers of pycocotools.
    _C.TEST.COCO_BACKEND = "detectron2"
    # Whether an evaluation on COCO's metrics also draws precision over recall, and AP by size.
    _C.TEST.COCO_PLOTS = False
    # Number of parts that a batch of IMS_PER_BATCH images goes through the network in, one after
    # the other, for one step of the optimizer with the mean of their losses.
    _C.SOLVER.ACCUMULATION_STEPS = 1
    # What SOLVER.AMP computes in: "float16" or "bfloat16". It is bfloat16 on CPUs whatever is set.
    _C.SOLVER.AMP.DTYPE = "float16"
    # Decay of an exponential moving average of the weights and statistics, such as 0.9999. It is
    # evaluated too, its metrics having "_ema" in their names, and saved as "ema". 0 keeps none.
    _C.SOLVER.EMA_DECAY = 0.0
    # The metric, such as "classification/top1" or "bbox/AP", whose highest value's weights are kept
    # as model_best.pth. "" keeps none.
    _C.SOLVER.BEST_CHECKPOINT_METRIC = ""
    # Whether a run that is resumed goes on as if it had never stopped: on a CPU, to the bit. What
    # is random about an image then follows from its place in the run.
    _C.SOLVER.EXACT_RESUME = True

    # Whether the backbone computes with channels last in memory, which is faster on tensor cores.
    _C.MODEL.CHANNELS_LAST = False
    return _C


def spec_from_config(cfg: CfgNode) -> ShakeDropSpec:
    """The settings under ``MODEL.SHAKEDROP``, validated.

    Raises:
        ValueError: for a value that is not allowed, naming the key, the value and what is.
    """
    if "SHAKEDROP" not in cfg.MODEL:
        raise ValueError(
            "MODEL.SHAKEDROP is missing: call shakedrop_det.add_shakedrop_config(cfg) right after "
            "detectron2.config.get_cfg()"
        )
    node = cfg.MODEL.SHAKEDROP
    if not isinstance(node.ENABLED, bool):
        raise ValueError(f"MODEL.SHAKEDROP.ENABLED must be True or False, got {node.ENABLED!r}")
    fields: Any = {key.lower(): value for key, value in node.items() if key != "ENABLED"}
    try:
        return ShakeDropSpec(**fields)
    except ValueError as error:
        # Each message begins with the name of the field: say it as the config does.
        field, _, rest = str(error).partition(" ")
        raise ValueError(f"MODEL.SHAKEDROP.{field.upper()} {rest}") from None
