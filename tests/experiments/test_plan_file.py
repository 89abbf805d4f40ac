"""Reading the file of an experiment: what is found beside it, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shakedrop_det.experiments import Run, load_plan

from .test_plan import GOOD, HELPS, SEARCH, write


def test_a_config_is_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"_BASE_: {GOOD['config']}\nVERSION: 2\n")
    plan = load_plan(write(tmp_path, config="mine.yaml", settings=None, options=None, seeds=[7]))
    assert plan.runs == [Run("all", "plain", 7), Run("all", "shaken", 7)]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"question": None}, "it must have the keys config, metrics.*it has config, metrics"),
        ({"seed": 1}, "it must have the keys.*it has .*, seed"),
        ({"metrics": "bbox/AP"}, "metrics must be a list of names, got 'bbox/AP'"),
        ({"metrics": []}, r"metrics must be a list of names, got \[\]"),
        ({"curves": "loss"}, "curves must be a list of names, got 'loss'"),
        ({"seeds": 0}, "seeds must be a number or a list of integers from 1, got 0"),
        ({"seeds": True}, "seeds must be .*, got True"),
        ({"seeds": [1, 0]}, r"seeds must be .*, got \[1, 0\]"),
        ({"seeds": [3, 3]}, r"seeds must differ from each other, got \[3, 3\]"),
        ({"variants": {}}, "variants must map names to config options, got {}"),
        ({"variants": ["plain"]}, r"variants must map names.*got \['plain'\]"),
        ({"settings": {"a": [1]}}, r"settings, 'a' must be config keys with their values.*\[1\]"),
        ({"options": {"SEED": 3}}, "options must not set SEED, which differs.*got 3"),
        ({"variants": {"a": {"OUTPUT_DIR": "x"}}}, "variants, 'a' must not set OUTPUT_DIR"),
        ({"variants": {"a b": {}, "a,b": {}}}, "'a b' and 'a,b' would share the folder 'a_b'"),
        (
            {"variants": {"a": {"SOLVER.LR": 1}}},
            "few images, a, seed 1: .*no config key 'SOLVER.LR'",
        ),
        ({"variants": {"a": {"overlays": "vanilla"}}}, "variants, 'a': overlays must be a list of"),
        (
            {"variants": {"a": {"overlays": ["vanila"]}}},
            "few images, a, seed 1: There is no overlay 'vanila'.*the nearest: vanilla",
        ),
        ({"search": {"key": "SEED"}}, "search must have the keys key, options, seeds, values, var"),
        ({"search": {**SEARCH, "seeds": [2, 3]}}, r"seeds must not be those of .*, got \[2\]"),
        ({"search": {**SEARCH, "seeds": 0}}, "search: seeds must be a number or a list"),
        ({"search": {**SEARCH, "values": [0.5]}}, r"values must be at least two.*got \[0.5\]"),
        ({"search": {**SEARCH, "values": [0.5, 0.5]}}, "search: values must be at least two"),
        (
            {"search": {**SEARCH, "variants": ["other"]}},
            r"search: variants must be some of plain, shaken; got \['other'\]",
        ),
        (
            {"search": {**SEARCH, "values": [[0.0, 0.0], [0.0, 1.0]]}},
            r"numbers or names, got \[\[0.0, 0.0\].*: write a value that is a list in quotes",
        ),
        ({"claims": {}}, "claims must be a list, got {}"),
        ({"claims": [{**HELPS, "as_images": "no"}]}, "as_images must be true or false, got 'no'"),
        ({"search": {**SEARCH, "settings": []}}, "settings must be some of few images, many"),
        ({"claims": [{"claim": "x"}]}, "claims must have claim and variant, and may have against"),
        (
            {"claims": [{"claim": "x", "variant": "y"}]},
            "claims: variant must be one of plain, shaken; got 'y'",
        ),
        (
            {"claims": [{"claim": "x", "variant": "plain", "beyond": "y"}]},
            "claims: beyond must be one of few images, many; got 'y'",
        ),
        ({"core_hours": "long"}, "core_hours must be a non-negative number, got 'long'"),
    ],
)
def test_a_mistake_is_named_with_what_to_write(tmp_path: Path, changes, message) -> None:
    with pytest.raises(ValueError, match=f"^experiment .*which.*{message}"):
        load_plan(write(tmp_path, **changes))


def test_names_may_be_numbers_in_the_search_as_elsewhere(tmp_path: Path) -> None:
    settings = {8: {}, 20: {"MODEL.RESNETS.DEPTH": 20}}
    plan = load_plan(write(tmp_path, settings=settings, search={**SEARCH, "settings": [8]}))
    assert plan.search is not None and plan.search.settings == ("8",)
    assert plan.search_plan is not None and list(plan.search_plan.settings) == ["8"]


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no experiment '.*none.yaml'"):
        load_plan(tmp_path / "none.yaml")
    with pytest.raises(FileNotFoundError, match="there is no file '.*other.yaml'"):
        load_plan(write(tmp_path, config="other.yaml"))


@pytest.mark.parametrize(
    "text, message", [("a: [", "is not valid yaml"), ("- a", r"it has \['a'\]")]
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_plan(path)
