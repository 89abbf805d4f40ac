"""Two runs do not share a folder, and dead ones hold none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shakedrop_det.utils.claim import CLAIM, check_unclaimed, claimed

# Has the folder, and a forked child as data workers are, until it is killed.
HOLDER = """
import os, sys, time
from shakedrop_det.utils.claim import claimed

with claimed(sys.argv[1]):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(100)
"""


def test_a_killed_run_holds_its_folder_no_longer(tmp_path: Path) -> None:
    """Not even while data workers that it left are still there."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        try:
            message = f"OUTPUT_DIR '{tmp_path}' is in use: process {holder.pid} on .* since 20"
            with pytest.raises(ValueError, match=message):
                check_unclaimed(str(tmp_path))
            with pytest.raises(ValueError, match=message), claimed(str(tmp_path)):
                pass
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            check_unclaimed(str(tmp_path))
            with claimed(str(tmp_path)):
                assert json.loads((tmp_path / CLAIM).read_text())["pid"] == os.getpid()
        finally:
            holder.kill()
            os.kill(child, signal.SIGKILL)
    assert os.listdir(tmp_path) == []


def test_a_process_has_its_folder_until_the_outermost_block_ends(tmp_path: Path) -> None:
    """A notebook may make a second trainer."""
    check = f"from shakedrop_det.utils.claim import *; check_unclaimed({str(tmp_path)!r})"
    with claimed(str(tmp_path)):
        check_unclaimed(str(tmp_path))
        with claimed(str(tmp_path)):
            pass
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
        assert "is in use" in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_lock_file_of_a_host_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    content = {"host": "elsewhere", "pid": 1, "since": "2020-01-01 00:00:00"}
    (tmp_path / CLAIM).write_text(json.dumps(content))
    check_unclaimed(str(tmp_path))
    with claimed(str(tmp_path)):
        assert json.loads((tmp_path / CLAIM).read_text())["host"] != "elsewhere"
