"""Read config files without running code, which Python tags in yaml could."""

from __future__ import annotations

import os
from typing import Any

import yaml
from detectron2.config import CfgNode

from .addresses import local_file, naming_address
from .atomic import is_local

_BASE = "_BASE_"


def read_config_file(path: str) -> dict[str, Any]:
    """Read a config file, merged over the files it names as ``_BASE_``.

    Args:
        path: path or address of a yaml file.

    Raises:
        OSError: if the file or a base cannot be read.
        ValueError: if a file does not map keys to values, has Python tags, or is its own base.
    """
    path = local_file(path)
    _check(path, ())
    values: dict[str, Any] = CfgNode.load_yaml_with_base(path, allow_unsafe=False)
    return values


def merge_config_file(cfg: CfgNode, path: str) -> None:
    """Merge a config file like detectron2's ``cfg.merge_from_file``, but without running code.

    Args:
        cfg: config to change in place. Keys of old versions are upgraded, as in detectron2.
        path: see :func:`read_config_file`.

    Raises:
        OSError, ValueError: see :func:`read_config_file`.
        KeyError, AssertionError, AttributeError, TypeError: raised by yacs for unknown keys, and
            for values of another type than the key's.
    """
    path = local_file(path)
    _check(path, ())
    cfg.merge_from_file(path, allow_unsafe=False)


def _check(path: str, above: tuple[str, ...]) -> None:
    """Check a file and its bases.

    Args:
        path: path of the file.
        above: files that have this one as a base, outermost first.
    """
    chain = (*above, _identity(path))
    if chain[-1] in above:
        circle = " -> ".join(chain[chain.index(chain[-1]) :])
        raise ValueError(f"{_BASE} refers to itself, {circle}: remove one of these references")
    if path.endswith(".py"):
        raise ValueError(
            f"{path!r} is a lazy config, which is a program: give a yaml file here, and use lazy "
            "configs with detectron2's lazyconfig_train_net.py"
        )
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path!r} contains no 'key: value' pairs, but {str(values)[:40]!r}")
    bases = values.get(_BASE, [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str):
            raise ValueError(f"{_BASE} of {path!r} must be the path of a file, got {base!r}")
        _check(_resolved(base, path), chain)


def _identity(path: str) -> str:
    return os.path.realpath(path) if is_local(path) else path


def _resolved(base: str, path: str) -> str:
    """Resolve a base like detectron2: relative to the file that names it."""
    base = os.path.expanduser(base)
    return base if "://" in base else os.path.join(os.path.dirname(path), base)


def read_yaml(path: str) -> Any:
    """Read a single yaml file by its path or address.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the file is not valid yaml, or has Python tags.
    """
    try:
        with naming_address(path), CfgNode._open_cfg(path) as file:
            return yaml.safe_load(file)
    except yaml.constructor.ConstructorError as error:
        if "tag" not in str(error.problem):
            raise ValueError(f"{_place(path, error)} is not valid yaml: {error.problem}") from error
        raise ValueError(
            f"{_place(path, error)} cannot be read without running code ({error.problem}): write "
            "the value itself, and a tuple as [1, 2]"
        ) from error
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"{_place(path, error)} is not valid yaml: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path!r} is not valid yaml: {reason}") from error


def _place(path: str, error: yaml.MarkedYAMLError) -> str:
    return f"{path!r}, line {error.problem_mark.line + 1}," if error.problem_mark else repr(path)
