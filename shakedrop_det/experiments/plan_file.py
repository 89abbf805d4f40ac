"""Read experiments from yaml files and validate them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shakedrop_det.utils.safe_yaml import read_yaml

from .plan import OVERLAYS, Claim, Options, Plan, Search, file_name
from .plan_checks import check_plan

_RESERVED = ("SEED", "OUTPUT_DIR")


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read and validate an experiment.

    Args:
        path: path of a yaml file with the keys ``question``, ``config`` (relative to the file),
            ``metrics`` (a list), ``seeds`` (their number, from 1, or a list) and ``variants``, and
            optionally ``settings`` and ``options``; see :class:`Plan`. Paths of overlay files are
            relative to the yaml file, too.

    Raises:
        FileNotFoundError: if the file or its config does not exist.
        ValueError: if a key is missing, unknown or has an invalid value, naming the key, the value
            and what is allowed; see also :func:`.check_plan`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no experiment {str(path)!r}")
    try:
        plan = _parse(read_yaml(str(path)), path)
    except ValueError as error:
        raise ValueError(f"experiment {path}: {error}") from None
    check_plan(plan)
    return plan


def _parse(content: Any, path: Path) -> Plan:
    required = {"question", "config", "metrics", "seeds", "variants"}
    allowed = required | {
        "settings",
        "options",
        "search",
        "claims",
        "chosen",
        "core_hours",
        "curves",
        "needs",
    }
    if not isinstance(content, dict) or not required <= content.keys() <= allowed:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)
        raise ValueError(
            f"it must have the keys {', '.join(sorted(required))}, and may have "
            f"{', '.join(sorted(allowed - required))}; it has {found}"
        )
    metrics, curves = content["metrics"], content.get("curves", [])
    for key, names, least in (("metrics", metrics, 1), ("curves", curves, 0)):
        is_list = isinstance(names, list) and len(names) >= least
        if not is_list or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{key} must be a list of names, got {names!r}")
    settings = _named_options(content.get("settings", {"all": {}}), "settings", path.parent)
    variants = _named_options(content["variants"], "variants", path.parent)
    seeds = _seeds(content["seeds"], "seeds")
    search = None
    if "search" in content:
        search = _search(content["search"], variants, settings, path.parent)
        if shared := sorted({*seeds} & {*search.seeds}):
            raise ValueError(f"search: seeds must not be those of the comparison, got {shared}")
    return Plan(
        name=path.stem,
        question=str(content["question"]).strip(),
        config_file=str(path.parent / str(content["config"])),
        metrics=tuple(metrics),
        curves=tuple(curves),
        seeds=seeds,
        options=_options(content.get("options", {}), "options", path.parent),
        settings=settings,
        variants=variants,
        search=search,
        claims=_claims(content.get("claims", []), variants, settings),
        chosen=str(content.get("chosen", "")).strip(),
        needs=str(content.get("needs", "")).strip(),
        core_hours=_core_hours(content.get("core_hours", 0)),
    )


def _core_hours(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ValueError(f"core_hours must be a non-negative number, got {value!r}")
    return float(value)


def _seeds(seeds: Any, key: str) -> tuple[int, ...]:
    if _is_count(seeds):
        seeds = list(range(1, seeds + 1))
    if not isinstance(seeds, list) or not seeds or not all(map(_is_count, seeds)):
        raise ValueError(f"{key} must be a number or a list of integers from 1, got {seeds!r}")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{key} must differ from each other, got {seeds!r}")
    return tuple(seeds)


def _claims(
    nodes: Any, variants: Mapping[str, Options], settings: Mapping[str, Options]
) -> tuple[Claim, ...]:
    if not isinstance(nodes, list):
        raise ValueError(f"claims must be a list, got {nodes!r}")
    return tuple(_claim(node, variants, settings) for node in nodes)


def _claim(node: Any, variants: Mapping[str, Options], settings: Mapping[str, Options]) -> Claim:
    required, others = {"claim", "variant"}, {"against", "as_images", "beyond", "setting"}
    if not isinstance(node, dict) or not required <= node.keys() <= required | others:
        raise ValueError(
            "claims must have claim and variant, and may have against, as_images, beyond, setting; "
            f"got {node!r}"
        )
    if not isinstance(node.get("as_images", False), bool):
        raise ValueError(f"claims: as_images must be true or false, got {node['as_images']!r}")
    claim = Claim(
        text=str(node["claim"]).strip(),
        variant=str(node["variant"]),
        against=str(node.get("against", next(iter(variants)))),
        setting=str(node.get("setting", next(iter(settings)))),
        beyond=str(node["beyond"]) if "beyond" in node else None,
        as_images=node.get("as_images", False),
    )
    for key, name, known in (
        ("variant", claim.variant, variants),
        ("against", claim.against, variants),
        ("setting", claim.setting, settings),
        ("beyond", claim.beyond, settings),
    ):
        if name is not None and name not in known:
            raise ValueError(f"claims: {key} must be one of {', '.join(known)}; got {name!r}")
    return claim


def _search(
    node: Any, variants: Mapping[str, Options], settings: Mapping[str, Options], folder: Path
) -> Search:
    required = {"key", "values", "variants", "seeds", "options"}
    if not isinstance(node, dict) or not required <= node.keys() <= required | {"settings"}:
        raise ValueError(
            f"search must have the keys {', '.join(sorted(required))}, and may have settings; "
            f"got {node!r}"
        )
    values = node["values"]
    chosen = {"variants": node["variants"], "settings": node.get("settings", list(settings))}
    if not isinstance(values, list) or any(isinstance(value, (list, dict)) for value in values):
        raise ValueError(
            f"search: values must be a list of numbers or names, got {values!r}: write a value "
            'that is a list in quotes, as in "[0.0, 1.0]"'
        )
    if len(set(values)) < max(len(values), 2):
        raise ValueError(f"search: values must be at least two that differ, got {values!r}")
    for key, known in (("variants", variants), ("settings", settings)):
        given = chosen[key]
        # Like those of variants and settings, names may be numbers in yaml.
        names = [str(name) for name in given] if isinstance(given, list) else []
        if not names or not {*names} <= known.keys():
            raise ValueError(f"search: {key} must be some of {', '.join(known)}; got {given!r}")
        chosen[key] = names
    return Search(
        key=str(node["key"]),
        values=tuple(values),
        variants=tuple(chosen["variants"]),
        seeds=_seeds(node["seeds"], "search: seeds"),
        options=_options(node["options"], "search: options", folder),
        settings=tuple(chosen["settings"]),
    )


def _is_count(value: Any) -> bool:
    # A bool is an int in Python.
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _named_options(node: Any, key: str, folder: Path) -> Mapping[str, Options]:
    if not isinstance(node, dict) or not node:
        raise ValueError(f"{key} must map names to config options, got {node!r}")
    named = {str(name): _options(part, f"{key}, {name!r}", folder) for name, part in node.items()}
    folders: dict[str, str] = {}
    for name in named:
        other = folders.setdefault(file_name(name), name)
        if other != name:
            raise ValueError(
                f"{key} {other!r} and {name!r} would share the folder {file_name(name)!r}: "
                "rename one of them"
            )
    return named


def _options(node: Any, key: str, folder: Path) -> dict[str, Any]:
    node = {} if node is None else node
    if not isinstance(node, dict):
        raise ValueError(f"{key} must be config keys with their values, got {node!r}")
    for name in node:
        if name in _RESERVED:
            raise ValueError(
                f"{key} must not set {name}, which differs between runs, got {node[name]!r}"
            )
    options = {str(name): value for name, value in node.items()}
    if OVERLAYS in options:
        overlays = options[OVERLAYS]
        if not isinstance(overlays, list) or not all(isinstance(name, str) for name in overlays):
            raise ValueError(f"{key}: overlays must be a list of names or files, got {overlays!r}")
        files = [folder / name for name in overlays]
        options[OVERLAYS] = [
            str(file) if file.is_file() else name
            for file, name in zip(files, overlays, strict=True)
        ]
    return options
