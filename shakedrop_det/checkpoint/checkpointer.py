"""The checkpointer: atomic files, and backbone weights that fit or stop the run."""

from __future__ import annotations

import os
import pickle
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.utils.file_io import PathManager
from torch import nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from .atomic import AtomicPathManager, is_local
from .backbone_keys import check_backbone, classifier_backbone


class Checkpointer(DetectionCheckpointer):
    """:class:`detectron2.checkpoint.DetectionCheckpointer` that neither damages nor half-loads.

    * Local files are replaced in one step: killed at any time, a run leaves its last complete
      checkpoint, and ``last_checkpoint`` names it.
    * Backbone weights that are missing in a file, or have another shape there, stop the run;
      the stock checkpointer warns and trains on from random numbers. Weights of heads may be
      missing, as usual in fine-tuning.
    * A checkpoint of :class:`shakedrop_det.modeling.ImageClassifier` goes into any detector whose
      backbone is the same ResNet: with FPN, without, or with res5 in the head ("C4").
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        """
        Args:
            model, save_dir, save_to_disk, checkpointables: see the stock checkpointer.
        """
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.path_manager: Any = AtomicPathManager(PathManager)
        self._source = ""

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint, see the stock checkpointer. An empty path loads nothing.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no checkpoint, or does not fit the model's backbone.
        """
        self._source = path
        file_name = path.partition("?")[0]
        if path and is_local(path) and not os.path.isfile(file_name):
            raise FileNotFoundError(
                f"MODEL.WEIGHTS: there is no file {file_name!r}; correct the path, or set "
                'MODEL.WEIGHTS "" to start from random weights'
            )
        try:
            return super().load(path, *args, **kwargs)
        finally:
            # Left set by an error, it would make the next call fail.
            self._parsed_url_during_load = None

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            return super()._load_file(filename)
        # What torch and pickle raise for truncated files, and for those that hold other things.
        except (pickle.UnpicklingError, EOFError, RuntimeError, UnicodeDecodeError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"MODEL.WEIGHTS: {filename!r} cannot be read as a checkpoint ({reason}); it may "
                "be damaged, or hold more than tensors, numbers and names"
            ) from error

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        """Convert names as the file needs, check the backbone, and load."""
        model_state = self.model.state_dict()
        state = checkpoint["model"]
        self._convert_ndarray_to_tensor(state)
        consume_prefix_in_state_dict_if_present(state, "module.")  # of a model saved inside DDP
        backbone_state = classifier_backbone(state, model_state)
        if backbone_state is not None:
            state = backbone_state
            checkpoint["matching_heuristics"] = True
        # Here rather than in the stock method, so that the check sees what the heuristics gave:
        # weights of another shape do not reach the model, with no more than a warning.
        if checkpoint.pop("matching_heuristics", False):
            from_caffe2 = checkpoint.get("__author__") == "Caffe2"
            state = align_and_update_state_dicts(model_state, state, c2_conversion=from_caffe2)
        check_backbone(state, model_state, source=self._source)
        checkpoint["model"] = state
        return super()._load_model(checkpoint)
