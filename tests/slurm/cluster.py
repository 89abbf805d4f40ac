"""A Slurm cluster of one node, in a folder of its own, that only this machine can reach."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
SLOTS = 2

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

# Jobs in "urgent" take the place of those in "usual", which get a signal and a minute to leave. A
# requeued job waits as long as credentials live.
_CONFIG = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,batch_sched_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=30
MinJobAge=60
NodeName=localhost NodeAddr=127.0.0.1 CPUs={slots} State=UNKNOWN
PartitionName=usual Nodes=localhost Default=YES PriorityTier=1 GraceTime=60 MaxTime=60
PartitionName=urgent Nodes=localhost PriorityTier=2 PreemptMode=OFF MaxTime=60
"""


def missing_programs() -> list[str]:
    """Those of Slurm and munge that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Start munged, slurmctld and slurmd, and stop them after the block. Meanwhile Slurm's commands
    find the cluster, in this process and those that it starts.

    Args:
        folder: which exists, with a path short enough for a socket.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir()
    config = folder / "slurm.conf"
    ports = {"ctld_port": free_port(), "slurmd_port": free_port()}
    config.write_text(_CONFIG.format(folder=folder, user=getpass.getuser(), slots=SLOTS, **ports))
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: object) -> None:
        with open(folder / "daemons.log", "ab") as log:
            words = [str(word) for word in command]
            started.append(subprocess.Popen(words, stdout=log, stderr=log))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", _PATH)
        patch.setenv("SLURM_CONF", str(config))
        try:
            (folder / "munge.key").write_bytes(os.urandom(128))
            (folder / "munge.key").chmod(0o400)
            files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
            options = [f"--{name}={folder}/munge.{end}" for name, end in files.items()]
            start("munged", "--foreground", "--force", f"--seed-file={folder}/munge.seed", *options)
            wait_until((folder / "munge.socket").exists)
            start("slurmctld", "-D", "-f", config)
            start("slurmd", "-D", "-N", "localhost", "-f", config)
            wait_until(lambda: "idle" in slurm("sinfo", "--noheader", "--format=%t"))
            yield
        finally:
            slurm("scancel", f"--user={getpass.getuser()}")
            wait_until(lambda: not slurm("squeue", "--noheader"))
            for process in reversed(started):
                process.terminate()
                process.wait(timeout=60)


def slurm(*command: str) -> str:
    """What a command of Slurm prints."""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def wait_until(condition: Callable[[], object], *, seconds: float = 300) -> None:
    """Look twice a second whether ``condition()`` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.5)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
