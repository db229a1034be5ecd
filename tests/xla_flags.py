"""With which of XLA's flags the tests compile."""

import os
import subprocess
import sys

OLDER_GENERATORS = "--xla_cpu_use_fusion_emitters=false"


def quick_flags() -> str:
    """Those in the environment, or if this version of XLA knows them, which aborts at others, the older generators."""
    if "XLA_FLAGS" in os.environ:
        return os.environ["XLA_FLAGS"]
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    process = subprocess.run(command, env={**os.environ, "XLA_FLAGS": OLDER_GENERATORS}, capture_output=True)
    return OLDER_GENERATORS if process.returncode == 0 else ""
