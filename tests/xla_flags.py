"""XLA flags with which the tests compile."""

import os
import subprocess
import sys

# XLA's older code generators, few of LLVM's optimisations, and no threads in each compilation: other tests have the
# other cores.
QUICK = (
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1 --xla_cpu_parallel_codegen_split_count=1"
)


def quick_flags() -> str:
    """Return the flags in the environment, else the quick ones if this version of XLA knows them: it aborts at others.

    ``ROBUST_JAX_TEST_ISA`` (``SSE4_2``, ``AVX``, ``AVX2``, ``AVX512``) limits the instruction set of compiled programs,
    so that one machine shows how an older one rounds.
    """
    limit = _instruction_set()
    if "XLA_FLAGS" in os.environ:
        given = os.environ["XLA_FLAGS"]
        return given if "--xla_cpu_max_isa" in given else f"{given} {limit}".strip()
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    process = subprocess.run(command, env={**os.environ, "XLA_FLAGS": QUICK}, capture_output=True)
    return f"{QUICK if process.returncode == 0 else ''} {limit}".strip()


def _instruction_set() -> str:
    isa = os.environ.get("ROBUST_JAX_TEST_ISA", "")
    return f"--xla_cpu_max_isa={isa}" if isa else ""
