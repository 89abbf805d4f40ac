"""Clip the gradients of a lazy config of detectron2, whose training script does not."""

from shakedrop_det.engine import clipped_sgd


def clip_gradients(optimizer):
    """Clip as SOLVER.CLIP_GRADIENTS of the yaml configs does.

    Args:
        optimizer (DictConfig): detectron2's lazy SGD, in place. All of its keys stay.
    """
    optimizer._target_ = clipped_sgd
    optimizer.max_norm = 1.0
