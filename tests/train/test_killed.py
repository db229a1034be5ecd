"""Runs killed by SIGKILL, which no process can prepare for, while training and while evaluating: the same bits."""

import os
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from robust_jax import train
from robust_jax.commands.experiment_file import load_experiment_file

pytestmark = pytest.mark.long
EVERY_STEP = ("--execution.checkpoint-every", "1", "--execution.log-every", "1")


def start(repository, workdir, slug, run):
    command = [sys.executable, "-m", "robust_jax", "run", f"experiments/{slug}.py", "--only", run]
    command += ["--workdir", str(workdir), *EVERY_STEP]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.Popen(command, cwd=repository, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(repository, workdir, slug, run):
    process = start(repository, workdir, slug, run)
    output = process.communicate(timeout=240)[0].decode()
    assert process.returncode == 0, output


def kill_when(condition, process):
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()


def logged(path, steps):
    return lambda: path.exists() and path.read_text().count("\n") >= steps


def weights(workdir, slug, run, repository):
    experiment = load_experiment_file(repository / "experiments" / f"{slug}.py").runs("smoke")[run]
    return jax.tree.map(np.asarray, train.restore(experiment, workdir / run).variables)


@pytest.mark.parametrize(
    ("slug", "run", "kills"),
    [
        # 22 steps an epoch: in the first, in the second, and in the evaluation.
        ("trades", "trades_beta6", [("metrics.jsonl", 5), ("metrics.jsonl", 30), ("evaluation", None)]),
        # Two stages of 2 epochs: in the first, in the second, and in the evaluation.
        (
            "linear_probe",
            "probe",
            [("stage0_pretrain/metrics.jsonl", 30), ("stage1_probe/metrics.jsonl", 5), ("evaluation", None)],
        ),
    ],
)
def test_a_killed_run_resumes_to_the_same_bits(repository, tmp_path, slug, run, kills):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    finish(repository, straight, slug, run)
    for name, steps in kills:
        path = killed / run / name
        condition = path.exists if steps is None else logged(path, steps)
        kill_when(condition, start(repository, killed, slug, run))
        assert not (killed / run / "results.jsonl").exists(), "killed too late"
    finish(repository, killed, slug, run)
    jax.tree.map(
        np.testing.assert_array_equal,
        weights(killed, slug, run, repository),
        weights(straight, slug, run, repository),
    )
    assert (killed / run / "results.jsonl").read_bytes() == (straight / run / "results.jsonl").read_bytes()
