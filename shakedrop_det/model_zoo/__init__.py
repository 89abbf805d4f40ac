"""The configs of this project by name, in the manner of ``detectron2.model_zoo``."""

from .model_zoo import get_config, get_config_file, list_configs

__all__ = ["get_config", "get_config_file", "list_configs"]
