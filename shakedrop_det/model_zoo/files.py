"""Find and read config files."""

from __future__ import annotations

import contextlib
import difflib
import re
from pathlib import Path
from typing import Iterator, Sequence

import yaml
from detectron2.config import CfgNode

from shakedrop_det.utils.config_keys import suggestion


def config_root() -> Path:
    """Return the folder of the configs: in the installed package, or at the top of a checkout."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def nearest(name: str, names: Sequence[str]) -> str:
    """Return the names closest to a name that does not exist, for an error message."""
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.3)
    return f"the nearest: {', '.join(near) or 'none'}"


@contextlib.contextmanager
def errors_of(file: str, cfg: CfgNode | None = None) -> Iterator[None]:
    """Convert errors that yaml and yacs raise while reading a config file to ``ValueError``.

    Args:
        file: start of the message, such as "--config-file 'mine.yaml'".
        cfg: config whose keys the file may have, to name those closest to an unknown one.
    """
    try:
        yield
    # yacs raises KeyError for unknown keys, and AssertionError or ValueError for wrong types. An
    # OSError can be about a missing _BASE_ of an existing file.
    except (AssertionError, KeyError, OSError, ValueError, yaml.YAMLError) as error:
        text = message(error)
        unknown = re.fullmatch("Non-existent config key: (.*)", text)
        hint = suggestion(cfg, unknown[1]) if unknown and cfg is not None else ""
        raise ValueError(f"{file}: {text}{hint}") from error
    except (AttributeError, TypeError) as error:  # A list, a text or nothing in place of a mapping.
        raise ValueError(
            f"{file}: the file, its _BASE_, or a key with keys of its own, such as MODEL, "
            f"contains no 'key: value' pairs ({error})"
        ) from error


def message(error: Exception) -> str:
    """Return the text of an exception, without the quotes that ``str`` adds to a ``KeyError``."""
    if isinstance(error, OSError):
        return str(error)
    text = str(error.args[0]) if error.args else repr(error)
    # If the key contains other keys, yacs prints all of them.
    found = re.search(r" vs\. (.*)\) for config key: (\S+)$", text) if "\n" in text else None
    return f"{found[2]} must contain keys of its own, got {found[1]}" if found else text
