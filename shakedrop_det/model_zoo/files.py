"""Finding and reading config files."""

from __future__ import annotations

import contextlib
import difflib
from pathlib import Path
from typing import Iterator, Sequence

import yaml


def config_root() -> Path:
    """The folder of the configs: in an installed package, or at the top of a checkout."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def nearest(name: str, names: Sequence[str]) -> str:
    """Those of the names that are most like one that does not exist, for an error message."""
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.3)
    return f"the nearest: {', '.join(near) or 'none'}"


@contextlib.contextmanager
def errors_of(file: str) -> Iterator[None]:
    """Turn what yaml and yacs raise while a config file is read into a ``ValueError``.

    Args:
        file: what the message begins with, such as "--config-file 'mine.yaml'".
    """
    try:
        yield
    # yacs tells of unknown keys by KeyError, and of wrong types by AssertionError or ValueError;
    # the file itself may be there where one that it names as _BASE_ is not.
    except (AssertionError, KeyError, OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: {message(error)}") from error
    except (AttributeError, TypeError) as error:  # Of a list, a text or nothing.
        raise ValueError(
            f"{file}: it, a file that it names as _BASE_, or a key of them that has keys of its "
            f"own, such as MODEL, holds no 'key: value' pairs ({error})"
        ) from error


def message(error: Exception) -> str:
    """What an exception says. ``str`` of a ``KeyError`` would put it in quotes."""
    if isinstance(error, OSError):
        return str(error)
    return str(error.args[0]) if error.args else repr(error)
