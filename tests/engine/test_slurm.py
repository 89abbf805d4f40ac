"""Options of --slurm, and what of them is a mistake."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from shakedrop_det.engine.slurm import check_processes, check_tasks, parse_slurm, submit
from shakedrop_det.engine.slurm_job import AFTER_THE_TASKS, SlurmJob, before_the_tasks


def test_each_gpu_gets_a_task_unless_the_options_say_otherwise() -> None:
    options = parse_slurm("partition=gpu,nodes=2,gpus_per_node=8,time=24:00:00")
    assert options == {
        "partition": "gpu",
        "nodes": 2,
        "gpus_per_node": 8,
        "time": "24:00:00",
        "ntasks_per_node": 8,
    }
    assert parse_slurm("gpus-per-node=8,tasks-per-node=4,time=5")["ntasks_per_node"] == 4
    assert parse_slurm("gpus_per_node=a100:8,time=5")["ntasks_per_node"] == 8
    assert parse_slurm("gpus_per_node=a100:4,v100:4,time=5")["ntasks_per_node"] == 8
    assert parse_slurm("gpus_per_node=a100,time=5")["ntasks_per_node"] == 1
    assert "ntasks_per_node" not in parse_slurm("cpus_per_task=4,time=5")


@pytest.mark.parametrize("text", ["gres=gpu:8", "gpus=16,nodes=2", "gpus-per-task=1"])
def test_gpus_without_processes_are_named(text: str) -> None:
    """sbatch would start one process and leave the other GPUs idle."""
    name = text.partition("=")[0].replace("-", "_")
    with pytest.raises(ValueError, match=f"--slurm: {name}=.* or add tasks_per_node=8"):
        check_tasks(parse_slurm(f"{text},time=5"))
    for more in ("tasks_per_node=8", "ntasks=16", "ntasks_per_gpu=1"):
        check_tasks(parse_slurm(f"{text},{more},time=5"))
    check_tasks(parse_slurm("gres=tmp:100G,gpus_per_node=2,time=5"))
    check_tasks(parse_slurm("gres=tmp:100G,time=5"))


def test_commas_within_a_value_are_kept() -> None:
    assert parse_slurm("exclude=a1,a[3-5],b,time=5") == {"exclude": "a1,a[3-5],b", "time": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu,time=5", "'gpu' is not NAME=VALUE"),
        ("partition=,time=5", "'partition=' is not NAME=VALUE"),
        ("", "'' is not NAME=VALUE"),
        ("nodes=2", "there is no time"),
    ],
)
def test_a_mistake_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_slurm(text)


@pytest.mark.parametrize("option", ["num_gpus", "num_machines"])
def test_processes_are_asked_for_once(option: str) -> None:
    with pytest.raises(ValueError, match=f"--{option.replace('_', '-')} 2 conflicts with --slurm"):
        check_processes(**{"num_gpus": 1, "num_machines": 1, "machine_rank": 0, option: 2})


def test_a_machine_without_slurm_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="there is no sbatch in PATH"):
        submit([SlurmJob(print, output=tmp_path)], {"time": 5}, tmp_path)


@pytest.mark.parametrize(
    ("command", "described", "requeued"),
    [
        ("kill -USR2 $BASHPID", "JobState=RUNNING PreemptTime=None", True),
        ("exit 140", "JobState=RUNNING PreemptTime=None", True),
        ("exit 143", "JobState=RUNNING PreemptTime=2026-01-01T00:00:00", True),
        ("exit 143", "JobState=RUNNING PreemptTime=None", False),
        ("exit 143", "JobState=CANCELLED PreemptTime=2026-01-01T00:00:00", False),
        ("exit 2", "JobState=RUNNING PreemptTime=2026-01-01T00:00:00", False),
        ("exit 0", "JobState=RUNNING PreemptTime=2026-01-01T00:00:00", False),
    ],
)
@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"SLURM_JOB_ID": "7"}, "7"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "3"}, "8_3"),
    ],
)
def test_the_batch_script_requeues_what_slurm_stopped(
    tmp_path: Path,
    command: str,
    described: str,
    requeued: bool,
    variables: dict[str, str],
    name: str,
) -> None:
    jobs = [SlurmJob(print, output=tmp_path / str(index)) for index in range(4)]
    run_batch_script(jobs, command, variables, folder=tmp_path, described=described)
    assert (f"requeue {name}" in (tmp_path / "calls").read_text().splitlines()) == requeued


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(
    ("restarts", "began", "saved", "requeued"),
    [
        (0, None, None, True),
        (0, "model_1.pth", "model_1.pth", True),
        (1, None, None, False),
        (1, "model_1.pth", "model_1.pth", False),
        (1, None, "model_1.pth", True),
        (2, "model_1.pth", "model_2.pth", True),
        (1, "model_1.pth", None, False),  # Of an earlier run, and set aside.
    ],
)
def test_a_job_whose_time_is_too_short_to_get_anywhere_ends(
    tmp_path: Path, restarts: int, began: str | None, saved: str | None, requeued: bool, begun: bool
) -> None:
    if begun:
        (tmp_path / "8_1_begun").touch()
    jobs = []
    for index in range(3):
        folder = tmp_path / f"the run's {index}"
        folder.mkdir()
        jobs.append(SlurmJob(print, output=folder, console=folder / "console.txt"))
    note = tmp_path / "the run's 1" / "last_checkpoint"
    if began is not None:
        note.write_text(began)
    command = f'rm -f "{note}"; ' + (f'printf {saved} > "{note}"; ' if saved else "") + "exit 140"
    array = {"SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "1"}
    variables = {"SLURM_JOB_ID": "9", "SLURM_RESTART_COUNT": str(restarts), **array}
    said = run_batch_script(jobs, command, variables, folder=tmp_path, described="PreemptTime=None")
    assert ("requeue 8_1" in (tmp_path / "calls").read_text().splitlines()) == requeued
    console = note.with_name("console.txt")
    if requeued:
        assert "Job 8_1 is requeued and will resume" in said and not console.exists()
    else:
        (line,) = said.splitlines()
        assert line.startswith("Job 8_1 is not requeued again: its time was over before")
        assert "began with. Start the command again with a longer time in --slurm" in line
        assert line.endswith(" (tools/train_net.py: and with --resume)") == begun
        assert console.read_text() == said


def run_batch_script(
    jobs: Sequence[SlurmJob],
    command: str,
    variables: dict[str, str],
    *,
    folder: Path,
    described: str,
) -> str:
    """What the script prints with a command as its tasks; ``calls`` gets those of scontrol."""
    scontrol = folder / "scontrol"
    lines = ["#!/bin/sh", f'[ $1 = show ] && echo "{described}"', f'echo "$@" >> {folder}/calls']
    scontrol.write_text("\n".join(lines))
    scontrol.chmod(0o755)
    parts = [
        f"PATH={folder}:$PATH",
        before_the_tasks(jobs, folder),
        f"({command})",
        AFTER_THE_TASKS,
    ]
    script = ["bash", "-c", "\n\n".join(parts)]
    return subprocess.run(script, env=variables, stdout=subprocess.PIPE, text=True).stdout
