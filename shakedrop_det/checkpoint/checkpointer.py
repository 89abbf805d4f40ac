"""The checkpointer: atomic files, and weights that fit the network or stop the run."""

from __future__ import annotations

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

from .backbone_keys import check_backbone, check_complete, check_depth, classifier_backbone
from .classes import CLASSES, check_number_of_classes, classes_of
from .contents import as_checkpoint, check_finite
from .conventions import (
    CONVENTIONS,
    PIXEL_KEYS,
    SHAKEDROP,
    STRIDE_KEY,
    check_pixel_conventions,
    conventions_in,
    pixel_conventions,
    shakedrop_in,
    shakedrop_remedy,
    shakedrop_settings,
)
from .other_names import refuse_library, refuse_torchvision, without_wrapping_model
from .weight_files import read_content

EMA = "ema"
"""Where a checkpoint keeps the exponential moving average of its model's weights."""


_LAST, _OLD = "last_checkpoint", "last_checkpoint.old"
_NAME_A_CHECKPOINT = (
    "write the name of a checkpoint of that folder into it, or remove it to begin from "
    "MODEL.WEIGHTS"
)
RESUME_REMEDY = (
    "Resume with the MODEL keys that the run began with, or begin another in another OUTPUT_DIR."
)


class Checkpointer(DetectionCheckpointer):
    """:class:`detectron2.checkpoint.DetectionCheckpointer` that neither damages nor half-loads.

    * Local files are replaced in one step: killed at any time, a run leaves its last complete
      checkpoint, and ``last_checkpoint`` names it.
    * Backbone weights that are missing in a file, or have another shape there, stop the run;
      the stock checkpointer warns and trains on from random numbers. Weights of heads may be
      missing, as usual in fine-tuning, but not where nothing is trained, nor in resuming, where
      the optimizer's state is that of the former ones.
    * A checkpoint of :class:`shakedrop_det.modeling.ImageClassifier` goes into any detector whose
      backbone is the same ResNet: with FPN, without, or with res5 in the head ("C4").
    * No code that a file carries is run, unless that is allowed; and what a file holds is checked
      before it is used. Wrappers around its weights, as of Lightning, are taken off.
    * Averaged weights, of ``SOLVER.EMA_DECAY``, are what is loaded from a file that has them,
      unless training is resumed from it.
    * It knows what it saved, or resumed from, last: ``last_saved`` is the path of the file, and
      ``last_iteration`` the iteration that it is of.
    * A file says which pixels its weights were trained with, and with what ShakeDrop. A config
      that gives them other pixels is refused; other ShakeDrop at test time is warned of.
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
            model, save_dir, save_to_disk, checkpointables: see the stock checkpointer.
            cfg: of the model, whose pixel conventions are saved and compared, and whose classes are
                saved; None to do neither.
            tag_last: whether what is saved becomes the checkpoint to resume from.
            heads_may_be_missing: False where the model is to be used as it is loaded.
            allow_pickle: whether code that a file carries may be run, see
                :func:`.weight_files.read_content`.
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
        """Save, see the stock checkpointer, with the conventions that the weights belong to, and
        the names and ids of their classes."""
        extra: dict[str, Any] = {SHAKEDROP: shakedrop_settings(self.model)}
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
        """Note the checkpoint to resume from, unless ``tag_last`` is False."""
        if self._tag_last:
            super().tag_last_checkpoint(last_filename_basename)

    def set_older_aside(self) -> None:
        """Rename the ``last_checkpoint`` of an earlier run to ``last_checkpoint.old``, and warn.

        For a run that begins anew: stopped before its first checkpoint and resumed, it would
        otherwise go on from the earlier run's. What this checkpointer resumed from or saved stays.
        """
        if self.last_saved or not self.has_checkpoint():
            return
        note, old = (os.path.join(self.save_dir, name) for name in (_LAST, _OLD))
        os.replace(note, old)
        self.logger.warning(
            "%r has checkpoints of an earlier run, and this run begins anew: renamed %s, which "
            "names %r, to %s. To go on with the earlier run instead, stop this one before it saves "
            "a checkpoint, rename the file back and use --resume",
            *(self.save_dir, _LAST, _named_in(old), _OLD),
        )

    def get_checkpoint_file(self) -> str:
        """The checkpoint to resume from, see the stock checkpointer.

        Raises:
            ValueError: if ``last_checkpoint`` names anything but a file of its own folder.
        """
        note = os.path.join(self.save_dir, _LAST)
        try:
            path: str = super().get_checkpoint_file()
        except UnicodeDecodeError as error:
            raise ValueError(f"{note!r} is not a text file: {_NAME_A_CHECKPOINT}") from error
        name = path.removeprefix(os.path.join(self.save_dir, ""))
        if not name or name != os.path.basename(name) or name in (".", ".."):
            raise ValueError(
                f"{note!r} names {name[:100]!r}, which is not a file in that folder: "
                f"{_NAME_A_CHECKPOINT}"
            )
        return path

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Load the last checkpoint or ``path``, see the stock checkpointer.

        Raises:
            FileNotFoundError, ValueError: see :meth:`load`; also if the last checkpoint was removed
                or renamed, or ``last_checkpoint`` does not name one.
        """
        if resume and self.has_checkpoint():
            last = self.get_checkpoint_file()
            if is_local(last) and not os.path.isfile(last):
                note = os.path.join(self.save_dir, _LAST)
                raise FileNotFoundError(
                    f"{note!r} says to resume from {os.path.basename(last)!r}, which is not there: "
                    f"{_NAME_A_CHECKPOINT}"
                )
        old = os.path.join(self.save_dir, _OLD)
        if resume and not self.has_checkpoint() and is_local(old) and os.path.isfile(old):
            self.logger.warning(
                "There is nothing to resume in %r: the run that began there last saved no "
                "checkpoint. To go on with the one before it, from %r, stop this one and rename %s "
                "to %s",
                *(self.save_dir, _named_in(old), _OLD, _LAST),
            )
        loaded = super().resume_or_load(path, resume=resume)
        if resume and self.has_checkpoint():
            self._note(self.get_checkpoint_file(), loaded.get("iteration"))
        return loaded

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint, see the stock checkpointer. An empty path loads nothing.

        Raises:
            FileNotFoundError: if there is no such file.
            OSError: if it has an address that cannot be read.
            ValueError: if it is no checkpoint, or does not fit the model's backbone, or lacks heads
                that may not be missing, or holds numbers that are not finite, or the config
                disagrees with the pixel conventions of the file, or it cannot be resumed from.
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
            # The query, which super() takes off, is read off the source.
            path = local_file(file_name, key="MODEL.WEIGHTS")
        try:
            checkpoint: dict[str, Any] = super().load(path, [])
        finally:
            # Left set by an error, it would make the next call fail.
            self._parsed_url_during_load = None
        for name in names:
            if name in checkpoint:
                self._restore(name, checkpoint.pop(name))
        return checkpoint

    def _restore(self, name: str, state: Any) -> None:
        self.logger.info("Loading %s from %s ...", name, self._source)
        try:
            if name == "trainer":
                _check_iteration(state["iteration"])
            self.checkpointables[name].load_state_dict(state)
        except Exception as error:  # Of what another program wrote there any can come.
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise ValueError(
                f"entry {name!r} of {self._source!r} does not fit this run "
                f"({reason}). {RESUME_REMEDY}"
            ) from error

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Read a file without running code, and take its weights out of what is around them."""
        query = parse_qs(urlparse(self._source).query)
        heuristics = query.pop("matching_heuristics", ["False"]) == ["True"]
        if query:
            raise ValueError(
                f"MODEL.WEIGHTS {self._source!r}: '?' may be followed by matching_heuristics=True, "
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
        """Convert names as the file needs, check the backbone, and load."""
        model_state = self.model.state_dict()
        state = without_wrapping_model(checkpoint["model"], model_state)
        refuse_torchvision(state, model_state, source=self._source)
        backbone_state = classifier_backbone(state, model_state)
        if backbone_state is not None:
            state = backbone_state
            checkpoint["matching_heuristics"] = True
        if self._cfg is not None and not self._heads_may_be_missing:
            check_number_of_classes(checkpoint.get(CLASSES), self._cfg, source=self._source)
        check_depth(state, model_state, source=self._source)
        # Here rather than in the stock method, so that the check sees what the heuristics gave:
        # weights of another shape do not reach the model, with no more than a warning.
        if checkpoint.pop("matching_heuristics", False):
            from_caffe2 = checkpoint.get("__author__") == "Caffe2"
            state = align_and_update_state_dicts(model_state, state, c2_conversion=from_caffe2)
        check_backbone(state, model_state, source=self._source)
        check_finite(state, model_state, source=self._source)
        # Of weights of another network the pixels are the least.
        self._check_conventions(checkpoint, model_state)
        checkpoint["model"] = state
        incompatible = super()._load_model(checkpoint)
        if self._resumes:
            check_complete(incompatible.missing_keys, source=self._source, remedy=RESUME_REMEDY)
        elif not self._heads_may_be_missing:
            check_complete(incompatible.missing_keys, source=self._source)
        return incompatible

    def _check_conventions(self, checkpoint: dict[str, Any], model_state: dict[str, Any]) -> None:
        conventions = conventions_in(checkpoint, source=self._source)
        if self._conventions is not None:
            # The stride is in the first or second of three convolutions; blocks of two have no
            # such choice.
            has_bottlenecks = any(".conv3." in key for key in model_state)
            keys = [key for key in PIXEL_KEYS if has_bottlenecks or key != STRIDE_KEY]
            check_pixel_conventions(conventions, self._conventions, source=self._source, keys=keys)
        settings = shakedrop_in(checkpoint, source=self._source)
        remedy = settings and shakedrop_remedy(settings, shakedrop_settings(self.model))
        if remedy:
            self.logger.warning(
                "The weights in %r were trained with other ShakeDrop settings than this network's, "
                "so that it computes another function at test time; set %s",
                self._source,
                remedy,
            )


def _named_in(path: str) -> str:
    """The checkpoint that a ``last_checkpoint`` names, if it does."""
    with open(path, errors="replace") as file:
        return file.read(100).strip()


def _check_iteration(iteration: Any) -> None:
    if not isinstance(iteration, int) or iteration < 0:
        raise ValueError(f"iteration is {iteration!r}")
