"""One device, eight, and two processes: the same rows, and one step to stop at."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from robust_jax.report import read_rows
from robust_jax.train import parse_distributed

SMOOTH = "tests/experiments/smooth.py"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(repository, workdir, *argv, devices=1):
    command = [sys.executable, "-m", "robust_jax", "run", SMOOTH, "--workdir", str(workdir), *argv]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=repository, env=environment, **pipes)


def start_two(repository, workdir, *argv):
    address = f"127.0.0.1:{free_port()}"
    return [start(repository, workdir, "--distributed", f"{address},2,{i}", *argv) for i in range(2)]


def finish(processes, status=0):
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [status] * len(processes), outputs
    return outputs


@pytest.fixture(scope="module")
def one_device(tmp_path_factory, repository):
    workdir = tmp_path_factory.mktemp("one")
    finish([start(repository, workdir)])
    return read_rows(workdir / "smooth" / "results.jsonl")


def assert_same_rows(rows, expected):
    assert [(row.case, row.metric, row.count) for row in rows] == [
        (row.case, row.metric, row.count) for row in expected
    ]
    np.testing.assert_allclose([row.value for row in rows], [row.value for row in expected], rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_eight_devices(one_device, repository, tmp_path):
    finish([start(repository, tmp_path, devices=8)])
    assert_same_rows(read_rows(tmp_path / "smooth" / "results.jsonl"), one_device)


@pytest.mark.long
def test_two_processes_stop_at_one_step_and_go_on(one_device, repository, tmp_path):
    """SIGTERM to one of them: both save the same step and exit; started again they end as one device does."""
    # A checkpoint at every step keeps the run going for the second or so in which the signal is noticed.
    processes = start_two(repository, tmp_path, "--execution.log-every", "1", "--execution.checkpoint-every", "1")
    path = tmp_path / "smooth" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (path.exists() and path.read_text().count("\n") >= 3):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), processes[0].communicate()[0]
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGTERM)
    outputs = finish(processes, status=143)
    assert "stopped and saved at step" in outputs[0]
    steps = [int(child.name) for child in (tmp_path / "smooth" / "checkpoints").iterdir() if child.name.isdigit()]
    assert json.loads(path.read_text().splitlines()[-1])["step"] == max(steps) < 34

    # Streamed, each process decoding its share: how data is fed changes no result.
    finish(start_two(repository, tmp_path, "--execution.resident", "no"))
    assert_same_rows(read_rows(tmp_path / "smooth" / "results.jsonl"), one_device)


def test_parse_distributed():
    assert parse_distributed("auto") is None
    assert parse_distributed("off") is None
    assert parse_distributed("host-0:9911,4,3") == ("host-0:9911", 4, 3)


@pytest.mark.parametrize("value", ["maybe", "host,2,0", "host:9911,2,2", "host:9911,2", "host:port,2,0"])
def test_bad_distributed_is_named(value):
    with pytest.raises(ValueError, match="--distributed"):
        parse_distributed(value)
