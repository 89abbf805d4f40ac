"""Checkpointer that saves atomically and refuses weights that do not fit the network."""

from __future__ import annotations

import contextlib
import os
from typing import Any
from urllib.parse import parse_qs, urlparse

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from torch import nn

from shakedrop_det.utils.addresses import local_file
from shakedrop_det.utils.atomic import AtomicPathManager, is_local

from . import last_checkpoint
from .backbone_keys import check_backbone, check_complete, check_depth, classifier_backbone
from .classes import CLASSES, check_number_of_classes, classes_of, difference_to_training
from .contents import as_checkpoint, check_finite
from .conventions import (
    CONVENTIONS,
    PIXEL_KEYS,
    SHAKEDROP,
    STRIDE_KEY,
    check_pixel_conventions,
    conventions_in,
    doubt_about_scales,
    pixel_conventions,
    shakedrop_in,
    shakedrop_remedy,
    shakedrop_settings,
)
from .other_names import refuse_library, refuse_torchvision, without_wrapping_model
from .weight_files import read_content

EMA = "ema"
"""Entry of a checkpoint for the exponential moving average of the model's weights."""

RESUME_REMEDY = (
    "Resume with the original MODEL keys of the run, or start a new run in another OUTPUT_DIR."
)


class Checkpointer(DetectionCheckpointer):
    """:class:`detectron2.checkpoint.DetectionCheckpointer` with atomic saving and strict loading.

    * Local files are replaced atomically: a run that is killed at any time leaves its last complete
      checkpoint, and ``last_checkpoint`` names it.
    * If a file lacks backbone weights or has other shapes, the run stops; the stock checkpointer
      warns and trains from random weights. Weights of heads may be missing, as usual in
      fine-tuning, but not if nothing is trained, nor in resuming, where they must match the
      optimizer's state.
    * A checkpoint of :class:`shakedrop_det.modeling.ImageClassifier` can be loaded into any
      detector with the same ResNet: with FPN, without, or with res5 in the head ("C4").
    * Code in a file is not run unless allowed, and contents are checked before use. Wrappers around
      the weights, e.g. Lightning's, are removed.
    * If a file has averaged weights (``SOLVER.EMA_DECAY``), these are loaded, except to resume.
    * ``last_saved`` is the path of the file that was last saved or resumed from, and
      ``last_iteration`` its iteration.
    * A file records the pixel format and ShakeDrop settings that its weights were trained with. A
      config with another pixel format is refused; other ShakeDrop settings at test time cause a
      warning.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        cfg: CfgNode | None = None,
        tag_last: bool = True,
        heads_may_be_missing: bool = True,
        allow_pickle: bool = False,
        **checkpointables: Any,
    ) -> None:
        """
        Args:
            model, save_dir, save_to_disk, checkpointables: See the stock checkpointer.
            cfg: Config of the model, whose pixel conventions are saved and compared and whose
                classes are saved; None to do neither.
            tag_last: Whether saved files become the checkpoint to resume from.
            heads_may_be_missing: False if the model is used as loaded, without training.
            allow_pickle: Whether code in a file may run; see :func:`.weight_files.read_content`.
        """
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.path_manager: Any = AtomicPathManager(PathManager)
        self._source = ""
        self._conventions = None if cfg is None else pixel_conventions(cfg)
        self._cfg = cfg
        self._tag_last = tag_last
        self._heads_may_be_missing = heads_may_be_missing
        self._allow_pickle = allow_pickle
        self._resumes = False
        self.last_saved = ""
        self.last_iteration: int | None = None

    def save(self, name: str, **kwargs: Any) -> None:
        """Save as the stock checkpointer does, together with the pixel conventions and ShakeDrop
        settings of the weights, and the names and ids of their classes."""
        extra: dict[str, Any] = {}
        if (settings := shakedrop_settings(self.model)) is not None:
            extra[SHAKEDROP] = settings
        if self._conventions is not None:
            extra[CONVENTIONS] = self._conventions
        if self._cfg is not None and (classes := classes_of(self._cfg)):
            extra[CLASSES] = classes
        super().save(name, **extra, **kwargs)
        if self.save_dir and self.save_to_disk:
            self._note(os.path.join(self.save_dir, f"{name}.pth"), kwargs.get("iteration"))

    def _note(self, path: str, iteration: int | None) -> None:
        self.last_saved, self.last_iteration = path, iteration

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Record the checkpoint to resume from, unless ``tag_last`` is False."""
        if self._tag_last:
            super().tag_last_checkpoint(last_filename_basename)

    def set_older_aside(self) -> None:
        """Rename the ``last_checkpoint`` of an earlier run to ``last_checkpoint.old``, and warn.

        A run that starts over calls this. Otherwise, if it were stopped before its first checkpoint
        and resumed, it would continue from the earlier run's. The file stays if this checkpointer
        resumed from it or wrote it.
        """
        if self.last_saved or not self.has_checkpoint():
            return
        name = last_checkpoint.set_aside(self.save_dir)
        self.logger.warning(
            "%r has checkpoints of an earlier run, and this run starts over: renamed %s, which "
            "names %r, to %s. To continue the earlier run instead, stop this one before it saves "
            "a checkpoint, rename the file back and use --resume",
            *(self.save_dir, last_checkpoint.NAME, name, last_checkpoint.OLD),
        )

    def last_checkpoint(self) -> str:
        """Return the path of the checkpoint to resume from; "" if there is none.

        Unlike ``last_saved``, it is known to all processes of a run.
        """
        if self.has_checkpoint():
            with contextlib.suppress(ValueError):
                return self.get_checkpoint_file()
        return self.last_saved

    def get_checkpoint_file(self) -> str:
        """Return the checkpoint to resume from; see the stock checkpointer.

        Raises:
            ValueError: If ``last_checkpoint`` names anything but a file in its own folder.
        """
        with last_checkpoint.text_errors(self.save_dir):
            path: str = super().get_checkpoint_file()
        last_checkpoint.check_in_folder(path, self.save_dir)
        return path

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Load the last checkpoint or ``path``; see the stock checkpointer.

        Raises:
            FileNotFoundError, ValueError: See :meth:`load`. Also raised if the last checkpoint was
                removed or renamed, or ``last_checkpoint`` does not name one.
        """
        if resume and self.has_checkpoint():
            last_checkpoint.check_exists(self.get_checkpoint_file())
        elif resume and (name := last_checkpoint.named_in_old(self.save_dir)):
            self.logger.warning(
                "There is nothing to resume in %r: the last run there saved no checkpoint. To "
                "continue the run before it, from %r, stop this one and rename %s to %s",
                *(self.save_dir, name, last_checkpoint.OLD, last_checkpoint.NAME),
            )
        elif resume:
            self.logger.warning(
                "There is no checkpoint to resume from in %r: starting from %s",
                *(self.save_dir, f"MODEL.WEIGHTS, {path!r}" if path else "random weights"),
            )
        loaded = super().resume_or_load(path, resume=resume)
        if resume and self.has_checkpoint():
            self._note(self.get_checkpoint_file(), loaded.get("iteration"))
        return loaded

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint; see the stock checkpointer. An empty path loads nothing.

        Raises:
            FileNotFoundError: If there is no such file.
            OSError: If its address cannot be read.
            ValueError: If it is not a checkpoint, does not fit the model's backbone, lacks required
                heads, has values that are not finite, has other pixel conventions than the config,
                or cannot be resumed from.
        """
        names = list(self.checkpointables if checkpointables is None else checkpointables)
        self._source = path
        self._resumes = bool(names)
        refuse_library(path)
        file_name = path.partition("?")[0]
        if path and is_local(path) and not os.path.isfile(file_name):
            raise FileNotFoundError(
                f"MODEL.WEIGHTS: there is no file {file_name!r}; correct the path, or set "
                'MODEL.WEIGHTS "" to start from random weights'
            )
        if path and not is_local(path):
            # _load_file reads the query from the source.
            path = local_file(file_name, key="MODEL.WEIGHTS")
        try:
            checkpoint: dict[str, Any] = super().load(path, [])
        finally:
            # If it remained set after an error, the next call would fail.
            self._parsed_url_during_load = None
        for name in names:
            if name in checkpoint:
                self._restore(name, checkpoint.pop(name))
        return checkpoint

    def _restore(self, name: str, state: Any) -> None:
        self.logger.info("Loading %s from %s ...", name, self._source)
        if name == "trainer" and self._cfg is not None:
            last_checkpoint.check_not_past(state, self._cfg.SOLVER.MAX_ITER, source=self._source)
        try:
            if name == "trainer":
                _check_iteration(state["iteration"])
            self.checkpointables[name].load_state_dict(state)
        except Exception as error:  # Content from another program can raise any error.
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise ValueError(
                f"entry {name!r} of {self._source!r} does not fit this run "
                f"({reason}). {RESUME_REMEDY}"
            ) from error

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Read a file without running code, and extract its weights from their wrappers."""
        query = parse_qs(urlparse(self._source).query)
        heuristics = query.pop("matching_heuristics", ["False"]) == ["True"]
        if query:
            raise ValueError(
                f"MODEL.WEIGHTS {self._source!r}: '?' can be followed by matching_heuristics=True, "
                f"not by {', '.join(query)}"
            )
        try:
            content = read_content(filename, allow_pickle=self._allow_pickle)
            checkpoint = as_checkpoint(content, path=filename, use_ema=not self._resumes)
        except ValueError as error:
            raise ValueError(f"MODEL.WEIGHTS: {error}") from error
        if heuristics:
            checkpoint["matching_heuristics"] = True
        return checkpoint

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        """Convert names if necessary, check the backbone, and load the weights."""
        model_state = self.model.state_dict()
        state = without_wrapping_model(checkpoint["model"], model_state)
        refuse_torchvision(state, model_state, source=self._source)
        backbone_state = classifier_backbone(state, model_state)
        if backbone_state is not None:
            state = backbone_state
            checkpoint["matching_heuristics"] = True
        if self._cfg is not None and not self._heads_may_be_missing:
            check_number_of_classes(checkpoint.get(CLASSES), self._cfg, source=self._source)
        elif self._cfg is not None and backbone_state is None:
            self._check_classes(checkpoint.get(CLASSES), self._cfg)
        check_depth(state, model_state, source=self._source)
        # Here rather than in the stock method, so that the result of the heuristics is checked:
        # they drop weights of other shapes with only a warning.
        if checkpoint.pop("matching_heuristics", False):
            from_caffe2 = checkpoint.get("__author__") == "Caffe2"
            state = align_and_update_state_dicts(model_state, state, c2_conversion=from_caffe2)
        check_backbone(state, model_state, source=self._source)
        check_finite(state, self.model.state_dict(keep_vars=True), source=self._source)
        # Last, since weights of another network have worse problems than other pixels.
        self._check_conventions(checkpoint, model_state)
        checkpoint["model"] = state
        incompatible = super()._load_model(checkpoint)
        if self._resumes:
            check_complete(incompatible.missing_keys, source=self._source, remedy=RESUME_REMEDY)
        elif not self._heads_may_be_missing:
            check_complete(incompatible.missing_keys, source=self._source)
        return incompatible

    def _check_classes(self, of_file: Any, cfg: CfgNode) -> None:
        """A head counts its classes, so with others or in another order it predicts wrong ones."""
        difference = difference_to_training(
            of_file, cfg, source=self._source, if_heads_fit=not self._resumes
        )
        if difference and self._resumes:
            raise ValueError(
                f"{difference}. Resume with the classes of the run in their order, or start a new "
                "run in another OUTPUT_DIR"
            )
        if difference:
            self.logger.warning(
                "%s. Heads that fit are loaded, and have to learn the other classes", difference
            )

    def _check_conventions(self, checkpoint: dict[str, Any], model_state: dict[str, Any]) -> None:
        conventions = conventions_in(checkpoint, source=self._source)
        if self._conventions is not None:
            # The stride is in the first or second of three convolutions; blocks with two
            # convolutions have no such choice.
            has_bottlenecks = any(".conv3." in key for key in model_state)
            keys = [key for key in PIXEL_KEYS if has_bottlenecks or key != STRIDE_KEY]
            check_pixel_conventions(conventions, self._conventions, source=self._source, keys=keys)
        self._check_shakedrop(shakedrop_in(checkpoint, source=self._source))

    def _check_shakedrop(self, of_file: dict[str, Any] | None) -> None:
        of_model = shakedrop_settings(self.model)
        remedy = shakedrop_remedy(of_file, of_model)
        if remedy:
            self.logger.warning(
                "The weights in %r were trained with other ShakeDrop settings than this network's, "
                "so it computes a different function at test time; set %s",
                self._source,
                remedy,
            )
        doubt = doubt_about_scales(of_file, of_model, source=self._source)
        if doubt:
            self.logger.warning(doubt)


def _check_iteration(iteration: Any) -> None:
    if not isinstance(iteration, int) or iteration < 0:
        raise ValueError(f"iteration is {iteration!r}")
