"""Reading experiments: what they become, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def test_lists_can_be_searched_if_they_are_in_quotes(tmp_path: Path) -> None:
    key, values = "MODEL.SHAKEDROP.BETA", ["[0.0, 1.0]", "[1.0, 1.0]"]
    plan = load_plan(write(tmp_path, search={**SEARCH, "key": key, "values": values}))
    final = plan.with_values({"shaken": values[1]})
    assert final.config(Run("many", "shaken", 1)).MODEL.SHAKEDROP.BETA == [1.0, 1.0]


def test_what_was_chosen_is_reported_on_the_images_of_the_experiment(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, search=SEARCH))
    final = plan.with_values({"shaken": 0.9})
    cfg = final.config(Run("few images", "shaken", 1))
    assert (cfg.MODEL.SHAKEDROP.SURVIVAL_PROB, cfg.DATASETS.TEST) == (0.9, ("digits_val",))
    assert final.config(Run("many", "plain", 1)) == plan.config(Run("many", "plain", 1))
    unknown = plan.with_values({})
    assert list(unknown.variants) == ["plain", "shaken"] and unknown.waiting == {"shaken"}
    assert {run.variant for run in unknown.ready_runs} == {"plain"}
    assert unknown.possible_runs == unknown.runs
    never = plan.with_values({"shaken": None})
    assert list(never.variants) == ["plain", "shaken"] and never.waiting == set()
    assert {run.variant for run in never.possible_runs} == {"plain"}
    assert never.ready_runs == never.possible_runs


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
