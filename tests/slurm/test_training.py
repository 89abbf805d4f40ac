"""tools/train_net.py as a job of a real Slurm."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import torch

from .cluster import slurm, wait_until
from .conftest import TESTS, Tool

pytestmark = pytest.mark.slow

OPTIONS = [
    *("--config-file", TESTS / "configs" / "tiny_mask_rcnn.yaml", "DATASETS.TEST", "()"),
    *("SOLVER.MAX_ITER", 80, "SOLVER.STEPS", "()", "SOLVER.CHECKPOINT_PERIOD", 7),
    *("DATALOADER.NUM_WORKERS", 1),
]


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("slurm_cluster")
def test_a_preempted_and_timed_out_job_of_two_processes_equals_a_local_run(
    tool: Tool, tmp_path: Path
) -> None:
    tool("train_net", *OPTIONS, "--output", tmp_path / "local", "--num-gpus", 2, "--dist-url=auto")

    output = tmp_path / "slurm"
    told = tool("train_net", *OPTIONS, "--output", output, "--slurm", "time=20,tasks_per_node=2")
    found = re.search(r"Job (\d+) is submitted. Its log is (.*)", told)
    assert found is not None, told
    job, log = found[1], Path(found[2])

    wait_until((output / "model_0000006.pth").exists)
    slurm("sbatch", "--partition=urgent", "--ntasks=1", "--output=/dev/null", "--wrap=sleep 2")
    wait_until(lambda: len(starts(output)) == 2)
    slurm("scancel", "--signal=USR2", job)  # what Slurm sends some time before the limit
    wait_until(lambda: not slurm("squeue", "--noheader", f"--job={job}"), seconds=600)

    text = log.read_text()
    assert text.count(f"Job {job} is requeued") == 2, text
    stops = [int(number) for number in re.findall("stopped after iteration ([0-9]+)", text)]
    assert starts(output) == [0, *(stop + 1 for stop in stops)]
    assert len(stops) == 2
    local, on_slurm = (weights(folder) for folder in (tmp_path / "local", output))
    assert local.keys() == on_slurm.keys()
    assert all(torch.equal(value, on_slurm[key]) for key, value in local.items())


@pytest.mark.usefixtures("slurm_cluster")
def test_a_cancelled_job_is_not_requeued(tool: Tool, tmp_path: Path) -> None:
    told = tool("train_net", *OPTIONS, "--output", tmp_path / "out", "--slurm", "time=20")
    job = told.split()[1]
    wait_until(lambda: (tmp_path / "out" / "model_0000006.pth").exists())
    slurm("scancel", job)
    wait_until(lambda: not slurm("squeue", "--noheader", f"--job={job}"))
    assert "is requeued" not in (tmp_path / "out" / "slurm" / f"{job}_0_log.out").read_text()


@pytest.mark.usefixtures("slurm_cluster")
def test_a_job_that_is_stopped_again_before_it_gets_anywhere_is_not_requeued_forever(
    tool: Tool, tmp_path: Path
) -> None:
    told = tool("train_net", *OPTIONS, "--output", tmp_path / "out", "--slurm", "time=20")
    job = told.split()[1]

    def has_ended_by_usr2() -> bool:
        slurm("scancel", "--signal=USR2", job)
        return not slurm("squeue", "--noheader", f"--job={job}")

    wait_until(has_ended_by_usr2)
    text = (tmp_path / "out" / "slurm" / f"{job}_0_log.out").read_text()
    assert text.count(f"Job {job} is requeued") == 1
    last = text.splitlines()[-1]
    assert last.startswith(f"Job {job} is not requeued again: its time was over before")
    assert "--resume" not in last, "it has not begun to train"


@pytest.mark.usefixtures("slurm_cluster")
def test_a_job_that_is_requeued_does_not_go_on_from_an_earlier_run(
    tool: Tool, tmp_path: Path
) -> None:
    """Be it stopped before it has begun to train, or after, but before its first checkpoint."""
    output = tmp_path / "out"
    tool("train_net", *OPTIONS, "SOLVER.MAX_ITER", 20, "--output", output)
    told = tool("train_net", *OPTIONS, "--output", output, "--slurm", "time=20")
    job = told.split()[1]
    wait_until(lambda: slurm("squeue", "--noheader", "--states=RUNNING", f"--job={job}"))
    while "Restarts=0" in slurm("scontrol", "show", "job", job):
        slurm("scancel", "--signal=USR2", job)
        time.sleep(0.5)
    assert (output / "last_checkpoint").read_text() == "model_final.pth", "it has not begun"
    wait_until((output / "last_checkpoint.old").exists)
    slurm("scontrol", "requeue", job)
    wait_until(lambda: not slurm("squeue", "--noheader", f"--job={job}"), seconds=600)
    earlier, *others = starts(output)
    assert earlier == others[0] == 0 and max(others) < 20
    assert torch.load(output / "model_final.pth", weights_only=True)["iteration"] == 79


@pytest.mark.usefixtures("slurm_cluster")
def test_what_sbatch_rejects_is_a_line_with_its_words(tool: Tool, tmp_path: Path) -> None:
    options = "time=20,partition=nowhere"
    text = tool("train_net", *OPTIONS, "--output", tmp_path, "--slurm", options, code=2)
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "invalid partition specified: nowhere" in line


def starts(output: Path) -> list[int]:
    log = output / "log.txt"
    text = log.read_text() if log.exists() else ""
    return [int(number) for number in re.findall("Starting training from iteration ([0-9]+)", text)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]
