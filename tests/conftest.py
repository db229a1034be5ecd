"""Settings for every test: strict JAX, four virtual devices, compiled programs cached between runs.

Compiling is most of what tests do, so they compile faster and to slower programs than users do: without LLVM's
optimisations, and with XLA's older code generators, which together take a quarter of the time. Files whose programs run
for long ask for optimisations (``optimised``).
"""

import dataclasses
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xla_flags import quick_flags

# matplotlib and tensorflow_datasets ask the system about screens and accounts; tests have neither.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TFDS_DISABLE_GCS", "1")

# Before JAX is imported; workers and the processes that tests start inherit them. Even the smallest programs are
# cached: many files have them in common.
os.environ["XLA_FLAGS"] = quick_flags()
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax

from robust_jax.core import loops
from robust_jax.core.compilation import use_compilation_cache
from robust_jax.train import Experiment

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
use_compilation_cache()
# Unrolled loops compile each step again; tests/core/test_platform.py unrolls as many as users do.
loops.MAX_UNROLLED = 2
# Tracing makes so many objects that looking through them for cycles takes a tenth of the time; see forget_programs.
gc.disable()

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """After each file. A program holds dozens of memory maps; at Linux's 65,530 of a process the next one crashes."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="module")
def optimised() -> Iterator[None]:
    """For files whose programs take longer to run than to compile."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def on_two_devices() -> Callable[[Experiment], Experiment]:
    """A whole experiment on as many devices as there are cores: more take longer."""

    def limited(experiment: Experiment) -> Experiment:
        return dataclasses.replace(experiment, execution=dataclasses.replace(experiment.execution, num_devices=2))

    return limited


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data kept outside the project; tests that need it skip where it is absent."""
    path = REPOSITORY.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs the real data sets in {path.parent.name}/{path.name}")
    return path


@pytest.fixture(scope="session")
def golden_arrays(shared_data: Path) -> Callable[[str], dict[str, Any]]:
    """The arrays of a file of other people's results, by its name."""

    def read(name: str) -> dict[str, Any]:
        with np.load(shared_data.parent / "golden" / f"{name}.npz") as file:
            return dict(file)

    return read
