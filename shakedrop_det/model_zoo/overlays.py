"""Overlays: small yaml files that change one aspect of any config."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from shakedrop_det.utils.atomic import is_local
from shakedrop_det.utils.config_keys import flat
from shakedrop_det.utils.safe_yaml import read_config_file

from .cfg_overlays import lay_over_cfg
from .files import config_root, errors_of, nearest
from .lazy_overlays import lay_over_lazy


def list_overlays() -> list[str]:
    """List the names of the overlays in ``configs/overlays``, sorted, such as ``"random_drop"``."""
    return sorted(p.stem for p in _folder().glob("*.yaml") if not p.stem.startswith("Base"))


def apply_overlay(cfg: Any, overlay: str) -> None:
    """Apply an overlay to a config, in place.

    Args:
        cfg: a ``CfgNode`` with the keys of :func:`shakedrop_det.add_shakedrop_config`, or a lazy
            config with ``model``, ``dataloader``, ``optimizer`` and ``train`` like detectron2's. It
            can be from this package, from detectron2 or your own.
        overlay: one of :func:`list_overlays`, or the path of a yaml file. The file may name other
            files as ``_BASE_``, relative to itself.

    Raises:
        ValueError: if the overlay does not exist, cannot be read, does not suit the config, or
            changes nothing in it.
    """
    apply_overlays(cfg, [overlay])


def apply_overlays(cfg: Any, overlays: Sequence[str]) -> None:
    """Apply several overlays to a config, in place and in the given order; later ones override.

    Args:
        cfg: see :func:`apply_overlay`; unchanged if any of the overlays is rejected.
        overlays: names or paths.

    Raises:
        ValueError: see :func:`apply_overlay`; also if later overlays override all that an overlay
            changes.
    """
    read = [(overlay, _read(overlay)) for overlay in overlays]
    after = copy.deepcopy(cfg)  # So that the config stays as it is if an overlay is rejected.
    for overlay, values in read:
        if not _lay_over(after, overlay, values):
            raise ValueError(
                f"overlay {overlay!r} changes nothing, since the config already has all of its "
                f"settings: leave it out, or use another of {', '.join(list_overlays())}"
            )
    _refuse_undone(cfg, read, after)
    for overlay, values in read:
        _lay_over(cfg, overlay, values)


def _lay_over(cfg: Any, overlay: str, values: Mapping[str, Any]) -> bool:
    """Apply an overlay, and return whether it changed anything."""
    if isinstance(cfg, CfgNode):
        return lay_over_cfg(cfg, overlay, values)
    return lay_over_lazy(cfg, overlay, flat(values))


def _folder() -> Path:
    return config_root() / "overlays"


def _file(overlay: str) -> str:
    if overlay in list_overlays():
        return str(_folder() / f"{overlay}.yaml")
    if os.path.isfile(overlay) or not is_local(overlay):
        return overlay
    names = list_overlays()
    raise ValueError(
        f"There is no overlay {overlay!r}, by name or as a file; {nearest(overlay, names)}. "
        f"Available are {', '.join(names)}"
    )


def _read(overlay: str) -> dict[str, Any]:
    file = _file(overlay)
    with errors_of(f"overlay {overlay!r}"):
        values = read_config_file(file)
        values.pop("VERSION", None)  # the version of detectron2's keys, not a change
        return values


def _refuse_undone(
    before: Any, overlays: Sequence[tuple[str, Mapping[str, Any]]], after: Any
) -> None:
    """Refuse an overlay without which the result would be the same."""
    for index, (overlay, _) in enumerate(overlays[:-1]):
        without = copy.deepcopy(before)
        try:
            for other, values in [*overlays[:index], *overlays[index + 1 :]]:
                _lay_over(without, other, values)
        except ValueError:
            continue  # The others need it.
        if without == after:
            later = ", ".join(repr(name) for name, _ in overlays[index + 1 :])
            raise ValueError(
                f"overlay {overlay!r} has no effect before {later}, which sets all that it "
                "changes: leave it out, or apply it last"
            )
