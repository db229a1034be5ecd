"""The command line as a user meets it: in processes of their own where the process matters."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from robust_jax import config, train
from robust_jax.__main__ import main
from robust_jax.commands.workdir import read_config

TINY = "tests/experiments/tiny.py"


@pytest.fixture
def run(capsys, monkeypatch, repository):
    """Runs one command in this process; gives its status, output and errors."""
    monkeypatch.chdir(repository)

    def call(*argv):
        try:
            status = main([str(arg) for arg in argv])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_deterministic_has_xla_asked_before_anything_runs(run, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    assert run("run", "missing.py")[0] == run("run", "missing.py", "--deterministic")[0] == 1
    assert os.environ["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=true"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, repository):
    """A finished run, made once."""
    folder = tmp_path_factory.mktemp("finished")
    finish(start(repository, "run", TINY, "--workdir", folder))
    return folder


def start(repository, *argv, **environment):
    command = [sys.executable, "-m", "robust_jax", *map(str, argv)]
    return subprocess.Popen(
        command,
        cwd=repository,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, status=0):
    """Waits for the end of a process and returns what it printed."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == status, err
    return out


def test_help_is_quick_because_it_imports_no_jax(repository):
    code = "import sys; from robust_jax.__main__ import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert 'jax' not in sys.modules and 'flax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True, capture_output=True)


def test_help_of_a_file_lists_its_overrides(run):
    status, out, _ = run("run", TINY, "--help")
    assert status == 0
    for option in ("--workdir", "--model.width", "--optimiser.learning-rate", "--execution.log-every"):
        assert option in out


def test_run_writes_everything_and_repeats_nothing(finished, run):
    for name in ("config.json", "command.txt", "metrics.jsonl", "results.jsonl", "report.html", "checkpoints"):
        assert (finished / "tiny" / name).exists(), name
    before = (finished / "tiny" / "results.jsonl").read_bytes()
    status, out, _ = run("run", TINY, "--workdir", finished)
    assert status == 0
    assert "finished before" in out
    assert "clean error" in out
    assert (finished / "tiny" / "results.jsonl").read_bytes() == before


def test_work_folder_of_another_experiment(finished, run):
    status, _, err = run("run", TINY, "--workdir", finished, "--model.width", 16)
    assert status == 1
    assert "holds another experiment" in err
    assert "model.width: 8 there, 16 here" in err


def test_execution_may_change(finished, run):
    status, _, _ = run("run", TINY, "--workdir", finished, "--execution.log-every", 7)
    assert status == 0


def test_eval_repeats_the_rows_and_takes_other_suites_only(finished, run):
    before = (finished / "tiny" / "results.jsonl").read_bytes()
    status, out, _ = run("eval", finished / "tiny")
    assert status == 0
    assert "step 34" in out
    assert (finished / "tiny" / "results.jsonl").read_bytes() == before
    status, _, err = run("eval", finished / "tiny", "--model.width", 16)
    assert status == 1
    assert "--model.width" in err


@pytest.mark.long
def test_eval_waits_for_the_end_of_training(run, tmp_path, monkeypatch):
    from robust_jax.train.preemption import Preemption

    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "reached", lambda self, step: step == 7)
        assert run("run", TINY, "--workdir", tmp_path)[0] == 143
    status, _, err = run("eval", tmp_path / "tiny")
    assert status == 1
    assert "trained to step 7 of 34" in err
    assert not (tmp_path / "tiny" / "results.jsonl").exists()


def test_compare_puts_runs_side_by_side(finished, run, tmp_path):
    page = tmp_path / "compare.html"
    status, out, _ = run("compare", finished, finished / "tiny", "--out", page)
    assert status == 0
    assert "tiny" in out
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "tests/experiments/tinny.py"], "No experiment file tests/experiments/tinny.py. Did you mean"),
        (["run", "tests/conftest.py"], "it defines no PAPER"),
        (["run", TINY, "--only", "tinny"], "no run 'tinny' at scale 'smoke'. Did you mean 'tiny'"),
        (["run", TINY, "--distributed", "maybe"], "Expected --distributed 'auto', 'off' or 'host:port,count,index'"),
        (["run", TINY, "--workdir", "README.md/runs"], "cannot write README.md/runs/tiny/config.json"),
        (["eval", "tests"], "is not the work folder of a run"),
        (["compare", "tests"], "No finished run in tests"),
        (["systems", "nowhere"], "No folder nowhere"),
    ],
)
def test_bad_arguments_are_one_clear_line(run, argv, message):
    status, _, err = run(*argv)
    assert status == 1
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("option", "nearest"),
    [
        ("--model.widht", "--model.width"),
        ("--scal", "--scale"),
        ("--optimizer.learning-rate", "--optimiser.learning-rate"),
    ],
)
def test_unknown_option_names_the_nearest(run, option, nearest):
    status, _, err = run("run", TINY, option, 3)
    assert status == 2
    assert nearest in err


def test_wrong_type_is_named(run):
    status, _, err = run("run", TINY, "--model.width", "wide")
    assert status == 2
    assert "--model.width" in err


def test_missing_data_folder(run, tmp_path):
    file = tmp_path / "missing.py"
    text = (
        "from robust_jax import data, models, train\nfrom robust_jax.types import Paper\n"
        "PAPER = Paper(title='t', claim='c')\n"
        "def get_runs(scale):\n"
        f"    return {{'a': train.Experiment(data=data.Tfds('mnist', data_dir={str(tmp_path / 'data')!r}), "
        "model=models.ResNet())}\n"
    )
    file.write_text(text)
    status, _, err = run("run", file, "--workdir", tmp_path / "out")
    assert status == 1
    assert "No data folder" in err
    file.write_text(text.split("def get_runs")[0])
    status, _, err = run("run", file)
    assert "it defines no get_runs" in err


def test_damaged_results_are_named(finished, run, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("config.json", "results.jsonl"):
        (folder / name).write_bytes((finished / "tiny" / name).read_bytes())
    with (folder / "results.jsonl").open("a") as file:
        file.write('{"run": "cut sho')
    status, _, err = run("compare", folder, "--out", tmp_path / "page.html")
    assert status == 1
    assert re.search(r"results.jsonl, line \d+ is not a row", err)


def test_systems_lists_and_records(finished, run, tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "tiny.py").write_text(Path(TINY).read_text())
    recorded = tmp_path / "tiny" / "smoke"
    shutil.copytree(finished, recorded)
    status, out, _ = run("systems", folder, "--record", recorded)
    assert status == 0
    assert "A tiny run" in out
    rows = (finished / "tiny" / "results.jsonl").read_bytes()
    assert (folder / "results" / "tiny_smoke.jsonl").read_bytes() == rows
    page = (folder / "README.md").read_text()
    assert "Measured at `--scale smoke` on digits" in page
    assert "| tiny |" in page


def wait_for_step(workdir, step, process, timeout=240):
    """Waits until the run has logged a step."""
    path = workdir / "tiny" / "metrics.jsonl"
    for _ in range(timeout * 20):
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and lines[-1].endswith("}") and json.loads(lines[-1])["step"] >= step:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise TimeoutError


def assert_same_bits(*workdirs):
    """The rows and the parameters of two runs."""
    rows = [(workdir / "results.jsonl").read_bytes() for workdir in workdirs]
    assert rows[0] == rows[1]
    variables = [train.restore(config.from_tree(read_config(path)), path).variables for path in workdirs]
    jax.tree.map(np.testing.assert_array_equal, *jax.device_get(variables))


@pytest.mark.long
def test_killed_and_resumed_gives_the_same_bits(finished, repository, tmp_path):
    for step in (5, 25):
        process = start(repository, "run", TINY, "--workdir", tmp_path)
        wait_for_step(tmp_path, step, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(repository, "run", TINY, "--workdir", tmp_path))
    assert_same_bits(tmp_path / "tiny", finished / "tiny")


@pytest.mark.long
def test_sigterm_saves_and_the_same_command_goes_on(finished, repository, tmp_path):
    process = start(repository, "run", TINY, "--workdir", tmp_path, "--execution.checkpoint-every", 1000)
    wait_for_step(tmp_path, 5, process)
    process.send_signal(signal.SIGTERM)
    assert "stopped and saved at step" in finish(process, status=143)
    finish(start(repository, "run", TINY, "--workdir", tmp_path))
    assert_same_bits(tmp_path / "tiny", finished / "tiny")
