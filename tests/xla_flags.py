"""With which of XLA's flags the tests compile."""

import os
import subprocess
import sys

# Of the code generators the older ones, few of LLVM's optimisations where any, and no threads in each compilation:
# other tests have the other cores.
QUICK = (
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1 --xla_cpu_parallel_codegen_split_count=1"
)


def quick_flags() -> str:
    """Those in the environment, or if this version of XLA knows them, which aborts at others, the quick ones."""
    if "XLA_FLAGS" in os.environ:
        return os.environ["XLA_FLAGS"]
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    process = subprocess.run(command, env={**os.environ, "XLA_FLAGS": QUICK}, capture_output=True)
    return QUICK if process.returncode == 0 else ""
