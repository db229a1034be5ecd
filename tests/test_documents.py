"""What people read first stays true: the README's examples, the notebooks, the experiment files, the make targets."""

import re
import subprocess
import sys

import nbclient
import nbformat
import pytest

from robust_jax import config
from robust_jax.commands.experiment_file import SCALES, load_experiment_file


@pytest.mark.long
def test_readme_examples_run(repository):
    """In one interpreter, each without the names of those before it; by itself, if it has a setting of JAX."""
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    alone = [block for block in blocks if "jax.config" in block]
    together = [f"exec(compile({block!r}, 'README', 'exec'), {{}})" for block in blocks if block not in alone]
    for program in (*alone, "\n".join(together)):
        result = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr


def test_readme_names_existing_files(repository):
    text = (repository / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (repository / target).exists(), target


@pytest.mark.long
@pytest.mark.parametrize("name", ["random_lp", "corruptions", "attacks", "augmentations", "posteriors"])
def test_notebooks_run(repository, name, tmp_path):
    notebook = nbformat.read(repository / "colabs" / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/svg+xml" in output.get("data", {}) for output in outputs)


def test_notebooks_are_committed_without_outputs(repository):
    for path in (repository / "colabs").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        assert not any(cell.get("outputs") for cell in notebook.cells), path


def experiment_files(repository):
    return sorted((repository / "experiments").glob("*.py"))


@pytest.mark.parametrize("scale", SCALES)
def test_every_experiment_is_a_plain_value(repository, scale):
    for path in experiment_files(repository):
        for name, run in load_experiment_file(path).runs(scale).items():
            assert config.from_json(config.to_json(run)) == run, (path, name)
            assert len({hash(run), hash(config.from_json(config.to_json(run)))}) == 1


def test_experiments_readme_is_current(repository, monkeypatch, tmp_path):
    """Written again from the files and rows beside it, the page does not change."""
    from robust_jax.commands.systems import systems

    before = (repository / "experiments" / "README.md").read_text()
    monkeypatch.chdir(repository)
    try:
        assert systems("experiments") == 0
        assert (repository / "experiments" / "README.md").read_text() == before
    finally:
        (repository / "experiments" / "README.md").write_text(before)
