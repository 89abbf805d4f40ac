"""Training in two processes on CPUs."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent.parent


def test_ranks_draw_independently_and_stay_equal(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    """Also where a seed is given, which must not make them equal."""
    config = TESTS / "configs" / "tiny_mask_rcnn.yaml"
    options = ["SEED", 1, "OUTPUT_DIR", tmp_path, "DATASETS.TEST", "()"]
    options += ["MODEL.SHAKEDROP.SURVIVAL_PROB", 0.0]
    script = TESTS / "tools" / "two_processes.py"
    process = start(script, "--config-file", config, "--num-gpus", 2, *options)
    out, err = process.communicate()
    assert process.returncode == 0, err + out

    ranks = [torch.load(tmp_path / f"rank{rank}.pth", weights_only=True) for rank in range(2)]
    # The backward scale of a block is uniform: equal numbers would mean equal generators.
    drawn = torch.cat([rank["draws"] for rank in ranks])
    assert len(drawn.unique()) == len(drawn) > 32

    first, second = (rank["model"] for rank in ranks)
    assert first.keys() == second.keys()
    for key, value in first.items():
        if "running" not in key and "tracked" not in key:  # each rank has its own statistics
            assert torch.equal(value, second[key]), key


@pytest.mark.slow
def test_adversarial_policies_are_resumed_in_two_processes(
    train_net: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    """In the middle of an epoch, of which each process has losses of its own."""
    options = ["OUTPUT_DIR", tmp_path, "DATASETS.TRAIN", "('digits_val',)", "DATASETS.TEST", "()"]
    options += ["DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler"]
    options += ["DATALOADER.RANDOM_SUBSET_RATIO", 0.067]  # 24 images, three steps
    options += ["SOLVER.MAX_ITER", 6, "SOLVER.STEPS", "(5,)", "SOLVER.CHECKPOINT_PERIOD", 2]
    key = "INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT"
    options += [f"{key}.POLICIES", 2, f"{key}.BASE_LR", 0.1]
    two = ["--num-gpus", 2, "--dist-url", "auto"]
    train_net("classifier", *two, *options)
    middle = torch.load(tmp_path / "model_0000001.pth", weights_only=True)["trainer"]["hooks"]
    first, second = (process["policies"] for process in middle["ExactResume"]["processes"])
    assert first["steps"] == second["steps"] == 2
    assert not torch.equal(first["losses"], second["losses"])
    unbroken = torch.load(tmp_path / "model_final.pth", weights_only=True)

    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    train_net("classifier", *two, "--resume", *options)
    resumed = torch.load(tmp_path / "model_final.pth", weights_only=True)
    for key, value in unbroken["model"].items():
        assert torch.equal(value, resumed["model"][key]), key
    policies = [end["trainer"]["hooks"]["PolicyUpdate"]["policies"] for end in (unbroken, resumed)]
    assert torch.equal(*policies)


@pytest.mark.slow
def test_train_net_with_two_processes(
    train_net: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    """Gradients of parts of a batch are summed before they are exchanged; resuming is exact."""
    options = ["OUTPUT_DIR", tmp_path, "SOLVER.AMP.ENABLED", True, "SOLVER.STEPS", (1,)]
    options += ["SOLVER.IMS_PER_BATCH", 8, "SOLVER.ACCUMULATION_STEPS", 2]
    options += ["MODEL.RESNETS.NORM", "naiveSyncBN", "SOLVER.EMA_DECAY", 0.9]
    two = ["--num-gpus", 2, "--dist-url", "auto"]
    train_net("mask_rcnn", *two, *options)
    assert (tmp_path / "log.txt.rank1").is_file()
    unbroken = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert unbroken["iteration"] == 3

    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    train_net("mask_rcnn", *two, "--resume", *options)
    resumed = torch.load(tmp_path / "model_final.pth", weights_only=True)
    for key, value in unbroken["model"].items():
        assert torch.equal(value, resumed["model"][key]), key
    states = [end["trainer"]["hooks"]["ExactResume"]["processes"] for end in (unbroken, resumed)]
    for before, after in zip(*states, strict=True):
        assert torch.equal(before["rng"]["torch"], after["rng"]["torch"])
        assert before["loader"] == after["loader"]
    assert not torch.equal(states[0][0]["rng"]["torch"], states[0][1]["rng"]["torch"])
