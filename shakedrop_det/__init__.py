"""ShakeDrop for detectron2: backbones whose residual branches are randomly scaled in training."""

try:
    import detectron2  # noqa: F401
except ImportError as error:
    raise ImportError(
        "shakedrop_det extends detectron2, which is not installed and has no package of its own on "
        "PyPI. Install it with\n"
        "    pip install --no-build-isolation "
        "'git+https://github.com/facebookresearch/detectron2.git'\n"
        "or see 'Installation' in the README of shakedrop_det for a way without a compiler."
    ) from error

from . import data  # noqa: F401  (registers the datasets)
from .config import add_shakedrop_config, add_training_config
from .layers import ShakeDrop, ShakeDropSpec, shakedrop
from .modeling import (
    ShakenBlock,
    cifar,  # noqa: F401  (registers its backbones and blocks)
    fold,
    register_shaken_block,
    replace_drop_path,
    shake,
    without_noise,
)

__version__ = "0.1.0"

__all__ = [
    "ShakeDrop",
    "ShakeDropSpec",
    "ShakenBlock",
    "__version__",
    "add_shakedrop_config",
    "add_training_config",
    "fold",
    "register_shaken_block",
    "replace_drop_path",
    "shake",
    "shakedrop",
    "without_noise",
]
