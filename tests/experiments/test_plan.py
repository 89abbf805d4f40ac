"""Reading experiments: what they become, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shakedrop_det.experiments import Claim, Run, load_plan
from tests.conftest import CONFIGS

GOOD: dict[str, Any] = {
    "question": "Which?",
    "config": str(CONFIGS / "tiny_classifier.yaml"),
    "metrics": ["classification/top1"],
    "seeds": 2,
    "options": {"SOLVER.MAX_ITER": 3, "SOLVER.STEPS": []},
    "settings": {"few images": {"SOLVER.IMS_PER_BATCH": 2}, "many": {"SOLVER.IMS_PER_BATCH": 4}},
    "variants": {
        "plain": {"MODEL.SHAKEDROP.ENABLED": False},
        "shaken": {"MODEL.SHAKEDROP.ALPHA": [-1.0, 1.0], "SOLVER.MAX_ITER": 5},
    },
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "which.yaml"
    content = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_each_variant_runs_in_each_setting_with_each_seed(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path))
    assert (plan.name, plan.baseline, plan.variants_compared) == ("which", "plain", ["shaken"])
    assert plan.runs == [
        Run(setting, variant, seed)
        for seed in (1, 2)
        for setting in ("few images", "many")
        for variant in ("plain", "shaken")
    ]
    assert len({run.folder for run in plan.runs}) == 8
    assert Run("few images", "shaken", 2).folder == Path("few_images/shaken/seed_2")


def test_options_are_overridden_by_settings_and_those_by_variants(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path))
    plain = plan.config(Run("few images", "plain", 1))
    shaken = plan.config(Run("many", "shaken", 2))
    assert (plain.SOLVER.MAX_ITER, shaken.SOLVER.MAX_ITER) == (3, 5)
    assert (plain.SOLVER.IMS_PER_BATCH, shaken.SOLVER.IMS_PER_BATCH) == (2, 4)
    assert (plain.SEED, shaken.SEED) == (1, 2)
    assert not plain.MODEL.SHAKEDROP.ENABLED and shaken.MODEL.SHAKEDROP.ALPHA == [-1.0, 1.0]
    assert tuple(plain.SOLVER.STEPS) == ()


def test_overlays_are_laid_over_the_config_before_all_options(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text("SOLVER: {MAX_ITER: 2}")
    plan = load_plan(
        write(
            tmp_path,
            options={"MODEL.SHAKEDROP.BETA": [0.0, 0.5]},
            settings={"short": {"overlays": ["short.yaml"], "SOLVER.STEPS": []}},
            variants={"plain": {"overlays": ["vanilla"]}, "noisy": {"overlays": ["random_drop"]}},
        )
    )
    plain, noisy = (plan.config(Run("short", variant, 1)) for variant in plan.variants)
    assert plain.SOLVER.MAX_ITER == noisy.SOLVER.MAX_ITER == 2
    assert (plain.MODEL.SHAKEDROP.ENABLED, noisy.MODEL.SHAKEDROP.ENABLED) == (False, True)
    # The overlay has beta 0; the option is later.
    assert noisy.MODEL.SHAKEDROP.BETA == [0.0, 0.5]


def test_the_seed_can_stand_in_an_option(tmp_path: Path) -> None:
    options = {"MODEL.WEIGHTS": "stage_1/seed_{seed}/model_final.pth"}
    plan = load_plan(write(tmp_path, options=options))
    assert [plan.config(Run("many", "plain", seed)).MODEL.WEIGHTS for seed in (1, 2)] == [
        "stage_1/seed_1/model_final.pth",
        "stage_1/seed_2/model_final.pth",
    ]


SEARCH: dict[str, Any] = {
    "key": "MODEL.SHAKEDROP.SURVIVAL_PROB",
    "values": [0.5, 0.9],
    "variants": ["shaken"],
    "settings": ["many"],
    "seeds": [11, 12],
    "options": {"DATASETS.TEST": ["digits_train"]},
}


HELPS = {"claim": "It helps", "variant": "shaken"}


def test_a_search_has_seeds_and_images_of_its_own(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, search=SEARCH))
    search = plan.search_plan
    assert search is not None and search.name == "which_search"
    assert [str(run) for run in search.runs] == [
        f"many, shaken, {value}, seed {seed}" for seed in (11, 12) for value in (0.5, 0.9)
    ]
    configs = [search.config(run) for run in search.runs[:2]]
    assert [cfg.MODEL.SHAKEDROP.SURVIVAL_PROB for cfg in configs] == [0.5, 0.9]
    assert {cfg.DATASETS.TEST for cfg in configs} == {("digits_train",)}
    assert {cfg.SOLVER.MAX_ITER for cfg in configs} == {5}


def test_files_are_other_images_if_they_are_in_another_folder(tmp_path: Path) -> None:
    """Although both datasets are named after the file."""
    detector = {"config": str(CONFIGS / "tiny_mask_rcnn.yaml"), "metrics": ["bbox/AP"]}
    files = [str(tmp_path / name / "val.json") for name in ("a", "b")]
    options = {"DATASETS.TEST": f"{files[0]}:images"}
    search = {**SEARCH, "options": {"DATASETS.TEST": f"{files[1]}:images"}}
    given = {**detector, "options": options, "variants": {"shaken": {}}}
    load_plan(write(tmp_path, **given, search=search))
    with pytest.raises(ValueError, match="search: options must set DATASETS.TEST .*a/val.json"):
        load_plan(write(tmp_path, **given, search={**search, "options": options}))


def test_lists_can_be_searched_if_they_are_in_quotes(tmp_path: Path) -> None:
    key, values = "MODEL.SHAKEDROP.BETA", ["[0.0, 1.0]", "[1.0, 1.0]"]
    plan = load_plan(write(tmp_path, search={**SEARCH, "key": key, "values": values}))
    final = plan.with_values({"shaken": values[1]})
    assert final.config(Run("many", "shaken", 1)).MODEL.SHAKEDROP.BETA == [1.0, 1.0]


def test_a_loss_may_be_all_that_is_reported_if_nothing_is_claimed(tmp_path: Path) -> None:
    assert load_plan(write(tmp_path, metrics=["total_loss"])).metrics == ("total_loss",)


def test_a_metric_of_a_category_is_accepted_while_the_categories_are_not_known(
    tmp_path: Path,
) -> None:
    given = {"variants": {"plain": {}}, "settings": {"all": {}}, "options": {}}
    detector = {**given, "config": str(CONFIGS / "tiny_mask_rcnn.yaml")}
    test = {"DATASETS.TEST": ["coco_2017_val"], "MODEL.ROI_HEADS.NUM_CLASSES": 80}
    load_plan(write(tmp_path, **{**detector, "options": test}, metrics=["segm/AP-person"]))


def test_what_was_chosen_is_reported_on_the_images_of_the_experiment(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, search=SEARCH))
    final = plan.with_values({"shaken": 0.9})
    cfg = final.config(Run("few images", "shaken", 1))
    assert (cfg.MODEL.SHAKEDROP.SURVIVAL_PROB, cfg.DATASETS.TEST) == (0.9, ("digits_val",))
    assert final.config(Run("many", "plain", 1)) == plan.config(Run("many", "plain", 1))
    unknown = plan.with_values({})
    assert list(unknown.variants) == ["plain", "shaken"] and unknown.waiting == {"shaken"}
    assert {run.variant for run in unknown.ready_runs} == {"plain"}


def test_claims_compare_with_the_baseline_in_the_first_setting_unless_they_say_else(
    tmp_path: Path,
) -> None:
    claims = [
        {"claim": "It helps", "variant": "shaken"},
        {
            "claim": "It hurts, and less with few images",
            "variant": "plain",
            "against": "shaken",
            "setting": "many",
            "beyond": "few images",
        },
    ]
    assert load_plan(write(tmp_path, claims=claims)).claims == (
        Claim("It helps", "shaken", "plain", "few images"),
        Claim("It hurts, and less with few images", "plain", "shaken", "many", "few images"),
    )


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
        (
            {"variants": {"a": {"MODEL.SHAKEDROP.SURVIVAL_PROB": 1.5}}},
            r"few images, a, seed 1: MODEL.SHAKEDROP.SURVIVAL_PROB must be .*1\.5",
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
        (
            {"search": {**SEARCH, "options": {}}},
            "search: options must set DATASETS.TEST to .* not reported on.* digits_val too",
        ),
        ({"claims": {}}, "claims must be a list, got {}"),
        ({"claims": [{**HELPS, "as_images": "no"}]}, "as_images must be true or false, got 'no'"),
        (
            {"claims": [{**HELPS, "as_images": True}]},
            "as_images needs settings that begin with the number of images.* got 'few images'",
        ),
        (
            {"claims": [{**HELPS, "as_images": True}], "settings": {"1 a": {}, "1 b": {}}},
            "as_images needs at least two settings, with different numbers .* got 1 a, 1 b",
        ),
        (
            {
                "claims": [{**HELPS, "as_images": True, "beyond": "20"}],
                "settings": {"10": {}, "20": {}},
            },
            "claims: as_images and beyond exclude each other, got 'It helps'",
        ),
        ({"metrics": ["classification/top2"]}, "names 'classification/top2', which .*: name class"),
        ({"metrics": ["bbox/AP"]}, "'bbox/AP', .*: name classification/top1 or .* or total_loss"),
        (
            {"metrics": ["total_loss"], "claims": [HELPS]},
            "first of metrics .* for which higher is better, got 'total_loss': name another",
        ),
        ({"metrics": ["total_loss"], "search": SEARCH}, "the first of metrics is .* 'total_loss'"),
        (
            {"options": {"DATASETS.TEST": ["digit_val"]}},
            "seed 1: DATASETS.TEST has no registered dataset 'digit_val': name digits_val",
        ),
        ({"search": {**SEARCH, "settings": []}}, "settings must be some of few images, many"),
        ({"search": {**SEARCH, "values": [0.5, 1.5]}}, "many, shaken, 1.5, seed 11: .*SURVIVAL"),
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
        ({"options": {"DATASETS.TEST": []}}, "seed 1: DATASETS.TEST is empty: name a dataset"),
    ],
)
def test_a_mistake_is_named_with_what_to_write(tmp_path: Path, changes, message) -> None:
    with pytest.raises(ValueError, match=f"^experiment .*which.*{message}"):
        load_plan(write(tmp_path, **changes))


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
