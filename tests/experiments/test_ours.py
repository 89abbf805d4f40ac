"""The experiments of configs/Experiments: what they compare, that they build, and that they run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from detectron2.modeling import build_model

from shakedrop_det.experiments import Plan, Run, load_plan
from shakedrop_det.experiments.single_run import train_and_record

FOLDER = Path(__file__).parents[2] / "configs" / "Experiments"
NAMES = sorted(path.stem for path in FOLDER.glob("[!B]*.yaml"))


def load(name: str) -> Plan:
    return load_plan(FOLDER / f"{name}.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_variants_differ_in_shakedrop_or_in_their_weights_alone(name: str) -> None:
    plan = load(name)
    compared = "WEIGHTS" if name == "scenes_pretraining" else "SHAKEDROP"
    for setting in plan.settings:
        plain, *others = (plan.config(Run(setting, variant, 1)) for variant in plan.variants)
        for other in others:
            assert other.MODEL[compared] != plain.MODEL[compared]
            other.MODEL[compared] = plain.MODEL[compared]
            assert other == plain


@pytest.mark.parametrize("name", NAMES)
def test_who_claims_something_says_what_it_takes_and_how_its_setting_was_chosen(name: str) -> None:
    plan = load(name)
    if plan.claims:
        assert plan.core_hours > 0
        assert re.match(r"(As in \w+: )?\d{4}-\d\d-\d\d|Not yet", plan.chosen)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_chosen_on_the_images_that_are_reported_on(name: str) -> None:
    plan = load(name)
    reported_on = images(plan)
    assert len(reported_on) == 1
    if plan.search_plan is not None:
        chosen_on = images(plan.search_plan)
        assert len(chosen_on) == 1 and chosen_on != reported_on


def images(plan: Plan) -> set[tuple[str, ...]]:
    """What its runs are evaluated on."""
    seed = plan.seeds[0]
    return {plan.config(run).DATASETS.TEST for run in plan.runs if run.seed == seed}


@pytest.mark.parametrize("name", NAMES)
def test_their_networks_can_be_built(name: str) -> None:
    plan = load(name)
    variants = list(plan.variants)
    for setting in plan.settings:
        cfg = plan.config(Run(setting, variants[-1], 1))
        cfg.MODEL.DEVICE = "cpu"
        build_model(cfg)


@pytest.mark.parametrize(
    "name, options, metric",
    [
        ("digits_methods", {}, "classification/top1"),
        (
            "scenes_methods",
            {
                "DATASETS.TRAIN": "tiny_scenes_train",
                "DATASETS.TEST": "tiny_scenes_val",
                "DATALOADER.RANDOM_SUBSET_RATIO": 1.0,
            },
            "segm/AP",
        ),
    ],
)
def test_two_of_them_run_for_two_steps(
    name: str, options: dict[str, str], metric: str, tmp_path: Path, datasets_root: str
) -> None:
    plan = load(name)
    short = {"SOLVER.MAX_ITER": 2, "MODEL.DEVICE": "cpu", **options}
    plan = replace(plan, options={**plan.options, **short})
    cfg = plan.config(Run("all", plan.variants_compared[0], 1))
    cfg.OUTPUT_DIR = str(tmp_path)
    result = train_and_record(cfg)
    assert {metric, "total_loss"} <= result.metrics.keys() and not result.diverged
