"""Reading config files without running code, which yaml's Python tags could."""

from __future__ import annotations

import os
from typing import Any

import yaml
from detectron2.config import CfgNode

from .addresses import local_file, naming_address
from .atomic import is_local

_BASE = "_BASE_"


def read_config_file(path: str) -> dict[str, Any]:
    """What a config file holds, over what it names as ``_BASE_``.

    Args:
        path: of a yaml file, or its address.

    Raises:
        OSError: if it, or a base, cannot be read.
        ValueError: if one of them is no yaml with names and values, has Python tags, or is its own
            base.
    """
    path = local_file(path)
    _check(path, ())
    values: dict[str, Any] = CfgNode.load_yaml_with_base(path, allow_unsafe=False)
    return values


def merge_config_file(cfg: CfgNode, path: str) -> None:
    """``cfg.merge_from_file``, of detectron2, without running code.

    Args:
        cfg: to change in place; old versions of its keys are upgraded, as detectron2 does.
        path: see :func:`read_config_file`.

    Raises:
        OSError, ValueError: see :func:`read_config_file`.
        KeyError, AssertionError, AttributeError, TypeError: what yacs raises of unknown keys, and
            of values that are not of the key's type.
    """
    path = local_file(path)
    _check(path, ())
    cfg.merge_from_file(path, allow_unsafe=False)


def _check(path: str, above: tuple[str, ...]) -> None:
    """Check a file and its bases.

    Args:
        path: of the file.
        above: the files that it is a base of, the first one first.
    """
    chain = (*above, _identity(path))
    if chain[-1] in above:
        circle = " -> ".join(chain[chain.index(chain[-1]) :])
        raise ValueError(f"{_BASE} refers to itself, {circle}: remove one of them")
    if path.endswith(".py"):
        raise ValueError(
            f"{path!r} is a lazy config, which is a program: give a yaml file here, and lazy ones "
            "to detectron2's lazyconfig_train_net.py"
        )
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path!r} holds no 'key: value' pairs, but {str(values)[:40]!r}")
    bases = values.get(_BASE, [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str):
            raise ValueError(f"{_BASE} of {path!r} must be the path of a file, got {base!r}")
        _check(_resolved(base, path), chain)


def _identity(path: str) -> str:
    return os.path.realpath(path) if is_local(path) else path


def _resolved(base: str, path: str) -> str:
    """As detectron2 does: relative to the file that names it."""
    base = os.path.expanduser(base)
    return base if "://" in base else os.path.join(os.path.dirname(path), base)


def read_yaml(path: str) -> Any:
    """What a single yaml file, or address, holds.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no yaml, or has Python tags.
    """
    try:
        with naming_address(path), CfgNode._open_cfg(path) as file:
            return yaml.safe_load(file)
    except yaml.constructor.ConstructorError as error:
        raise ValueError(
            f"{_place(path, error)} cannot be read without running code ({error.problem}): write "
            "the value itself, a tuple as [1, 2]"
        ) from error
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"{_place(path, error)} is not valid yaml: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path!r} is not valid yaml: {reason}") from error


def _place(path: str, error: yaml.MarkedYAMLError) -> str:
    return f"{path!r}, line {error.problem_mark.line + 1}," if error.problem_mark else repr(path)
