"""Runs over many hosts: one process a host, all with the same command."""

from __future__ import annotations

import re

import jax

EXPECTED = "'auto', 'off' or 'host:port,count,index'"


def parse_distributed(value: str) -> tuple[str, int, int] | None:
    """``host:port,count,index`` as its three parts; ``None`` for ``auto`` and ``off``.

    Raises:
        ValueError: on anything else, or an index outside the count.
    """
    if value in ("auto", "off"):
        return None
    match = re.fullmatch(r"([^,:]+:\d+),(\d+),(\d+)", value)
    if not match:
        raise ValueError(f"Expected --distributed {EXPECTED}, got {value!r}.")
    address, count, index = match[1], int(match[2]), int(match[3])
    if not index < count:
        raise ValueError(f"Expected --distributed with index < count, got {value!r}.")
    return address, count, index


def start_distributed(value: str) -> None:
    """Joins the run's processes. Call before anything touches a device.

    Args:
        value: ``off`` for a single process; ``auto`` where the cluster tells (TPU pods, SLURM, Open MPI, Kubernetes
            with JAX's variables); else ``host:port,count,index`` of the coordinator, the number of processes, and
            which one this is.
    """
    parts = parse_distributed(value)
    if value == "off":
        return
    if parts is None:
        jax.distributed.initialize()
        return
    address, count, index = parts
    jax.distributed.initialize(coordinator_address=address, num_processes=count, process_id=index)
