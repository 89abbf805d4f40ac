"""Adversarial AutoAugment in the trainer: all copies are trained on, exactly resumed."""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage

from shakedrop_det.augmentation import Controller, PolicySearch
from shakedrop_det.engine import Trainer
from shakedrop_det.engine.interruption import Interrupted
from shakedrop_det.engine.policy_search import PolicyUpdate
from tests.augmentation.test_search import uniform
from tests.modeling.test_distributed import in_two_processes

from .test_exact_resume import end_of
from .test_interruption import once, prepared

Tiny = Callable[..., CfgNode]
KEY = "INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT"
pytestmark = pytest.mark.usefixtures("clean_logging")


def three_step_epochs() -> list[Any]:
    """Options for an epoch of 24 images."""
    number = len(DatasetCatalog.get("tiny_digits"))
    ratio = ["DATALOADER.RANDOM_SUBSET_RATIO", 24 / number]
    return ["DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler", *ratio]


def adversarial(tiny: Tiny, policies: int, *options: Any) -> CfgNode:
    more = [f"{KEY}.POLICIES", policies, "DATASETS.TEST", (), *options]
    return tiny("classifier", *three_step_epochs(), *more)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_has_the_mean_gradient_of_all_copies(tiny: Tiny, parts: int) -> None:
    cfg = adversarial(tiny, 3, "SOLVER.ACCUMULATION_STEPS", parts, "SOLVER.BASE_LR", 0.0)
    trainer = Trainer(cfg)
    model, step = trainer.model, trainer._trainer
    batch = next(iter(trainer.data_loader))
    step._data_loader_iter_obj = iter([batch])
    reference = copy.deepcopy((model, trainer.policies))
    with EventStorage():
        torch.manual_seed(5)
        step.run_step()
    model, policies = reference
    torch.manual_seed(5)
    copies = policies.copies(batch, torch.device("cpu"))
    losses = []
    for one in copies:
        size = len(one) // parts
        of_parts = [model(one[start : start + size])["loss_cls"] for start in range(0, 8, size)]
        losses.append(sum(of_parts) / parts)
    (sum(losses) / 3).backward()
    assert len(copies) == 3 and len({loss.item() for loss in losses}) == 3
    for expected, found in zip(model.parameters(), trainer.model.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trainer.policies.mean_losses(), torch.stack(losses).detach())


def test_policies_change_after_each_epoch(tiny: Tiny) -> None:
    trainer = Trainer(adversarial(tiny, 2, "SOLVER.MAX_ITER", 7, "SOLVER.STEPS", ()))
    seen = []
    train_step = trainer._trainer.run_step
    trainer._trainer.run_step = lambda: (seen.append(trainer.policies.policies), train_step())
    trainer.train()
    same = [torch.equal(a, b) for a, b in zip(seen, seen[1:], strict=False)]
    assert same == [True, True, False, True, True, False]
    entropies = trainer.storage.history("policy_entropy").values()
    assert [iteration for _, iteration in entropies] == [2, 5]
    assert "policy_entropy" in Path(trainer.cfg.OUTPUT_DIR, "metrics.json").read_text()


def test_with_one_policy_and_a_uniform_controller_training_is_that_with_random_policies(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zeros(self: Controller, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        for head in (self.operation, self.magnitude):
            torch.nn.init.zeros_(head.weight)

    build = Controller.__init__
    options = ["SEED", 1, f"{KEY}.ENTROPY_WEIGHT", 0.0, "SOLVER.STEPS", ()]
    found = []
    for is_random in (False, True):
        with monkeypatch.context() as patch:
            if is_random:
                patch.setattr(
                    Controller,
                    "sample",
                    lambda self, number, generator: uniform(number, 5, generator),
                )
            else:
                patch.setattr(Controller, "__init__", zeros)
            folder = str(Path(tiny("classifier").OUTPUT_DIR) / str(is_random))
            cfg = adversarial(tiny, 1, *options, "OUTPUT_DIR", folder, "SOLVER.MAX_ITER", 5)
            seed_all_rng(2)
            trainer = Trainer(cfg)
            trainer.train()
            found.append(trainer.model.state_dict())
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize("seed", [1, -1])
def test_a_run_is_resumed_exactly_in_the_middle_of_an_epoch(tiny: Tiny, seed: int) -> None:
    schedule = ["SOLVER.MAX_ITER", 8, "SOLVER.STEPS", (), "SOLVER.CHECKPOINT_PERIOD", 4]
    cfg = adversarial(tiny, 2, "SEED", seed, *schedule, f"{KEY}.BASE_LR", 0.5)
    expected = end_of(cfg, resume=False)
    final = Path(cfg.OUTPUT_DIR, "model_final.pth")
    before = torch.load(final, weights_only=True)["trainer"]["hooks"]
    Path(cfg.OUTPUT_DIR, "last_checkpoint").write_text("model_0000003.pth")
    found = end_of(cfg, resume=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    after = torch.load(final, weights_only=True)["trainer"]["hooks"]
    torch.testing.assert_close(after["PolicyUpdate"], before["PolicyUpdate"], rtol=0, atol=0)
    (losses,) = (process["policies"] for process in after["ExactResume"]["processes"])
    assert losses["steps"] == 2  # since the sixth


def test_a_run_that_is_stopped_at_the_end_of_an_epoch_goes_on_with_new_policies(
    tiny: Tiny, tmp_path: Path
) -> None:
    schedule = ["SOLVER.MAX_ITER", 5, "SOLVER.STEPS", (), "SOLVER.CHECKPOINT_PERIOD", 100]
    cfg = adversarial(tiny, 2, "SEED", 1, *schedule, f"{KEY}.BASE_LR", 0.5)
    unbroken = prepared(cfg)
    unbroken.train()
    expected = {key: value.clone() for key, value in unbroken.model.state_dict().items()}
    cfg.OUTPUT_DIR = str(tmp_path / "interrupted")
    trainer = prepared(cfg)
    trainer.model.forward = once(trainer.model.forward, lambda: trainer.iter == 2, signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped after iteration 2; "):
        trainer.train()
    resumed = prepared(cfg, resume=True)
    assert not torch.equal(resumed.policies.policies, PolicySearch(2, seed=1).policies)
    resumed.train()
    torch.testing.assert_close(resumed.model.state_dict(), expected, rtol=0, atol=0)


def of_rank(rank: int) -> dict[str, torch.Tensor]:
    """An epoch of two steps, with losses that each process has of its own."""
    search = PolicySearch(3, seed=1, lr=0.5)
    hook = PolicyUpdate(search, num_images=8, batch_size=4)
    with EventStorage() as storage:
        hook.trainer = SimpleNamespace(iter=0, storage=storage)
        for hook.trainer.iter in range(2):
            search.add_losses(torch.tensor([1.0, 2.0, 3.0]) * (1 - 2 * rank) + rank)
            search.add_losses(torch.tensor([5.0, 0.0, rank * 6.0]))
            hook.after_step()
    return {"policies": search.policies, **search.controller.state_dict()}


def test_two_processes_have_one_controller_that_learns_from_the_losses_of_both(
    tmp_path: Path,
) -> None:
    found = in_two_processes(of_rank, tmp_path)
    torch.testing.assert_close(*found, rtol=0, atol=0)
    alone = PolicySearch(3, seed=1, lr=0.5)
    means = [
        torch.tensor([[1.0, 2.0, 3.0], [5.0, 0.0, 0.0]]).mean(0),
        torch.tensor([[0.0, -1.0, -2.0], [5.0, 0.0, 6.0]]).mean(0),
    ]
    alone.update(sum(means) / 2)
    expected = {"policies": alone.policies, **alone.controller.state_dict()}
    torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize(
    "options, message",
    [
        ([f"{KEY}.POLICIES", -1], "POLICIES must be at least 0 .0 disables it., got -1"),
        ([f"{KEY}.SUB_POLICIES", 0], "SUB_POLICIES must be at least 1, got 0"),
        ([f"{KEY}.BASE_LR", 0.0], "BASE_LR must be positive, got 0.0"),
        ([f"{KEY}.ENTROPY_WEIGHT", -0.1], "ENTROPY_WEIGHT must be at least 0, got -0.1"),
        (
            [f"{KEY}.POLICIES", 2, "INPUT.CLASSIFICATION.AUTO_AUGMENT", "randaugment"],
            "POLICIES 2 replaces INPUT.CLASSIFICATION.AUTO_AUGMENT 'randaugment'",
        ),
    ],
)
def test_what_cannot_be_is_named_before_the_run(tiny: Tiny, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trainer(tiny("classifier", *options))


def test_a_detector_has_no_policies(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="needs MODEL.META_ARCHITECTURE 'ImageClassifier'"):
        Trainer(tiny("mask_rcnn", f"{KEY}.POLICIES", 2))
