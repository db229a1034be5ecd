"""Checkpoints. The only file that imports orbax."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run, by step; written atomically in the background, the oldest deleted.

    Args:
        folder: where they live; made if need be.
        keep: how many are kept.
    """

    def __init__(self, folder: Path, *, keep: int):
        self.folder = Path(folder).absolute()
        # Members save at once: with one name for their barriers, several processes would mistake one's for another's.
        barriers = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=self.folder.parent.name)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, multiprocessing_options=barriers)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, state: PyTree) -> None:
        """Saves ``state`` unless this step is saved already."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def latest_step(self) -> int | None:
        """The last step with a checkpoint, readable or not."""
        return self._manager.latest_step()

    def restore(self, like: PyTree, *, at_most: int | None = None) -> PyTree | None:
        """The newest checkpoint that can be read, laid out as ``like``; ``None`` where there is none.

        With ``at_most``, the newest of that step or before. One that is truncated or of another structure is moved to
        ``damaged/`` beside the folder, with a warning, and the one before it is tried.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        for step in sorted(self._manager.all_steps(), reverse=True):
            if at_most is not None and step > at_most:
                continue
            try:
                return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
            # Damage shows as almost any error, from tensorstore, from JSON or from the file system.
            except Exception as error:
                reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                logger.warning("Checkpoint %s cannot be read and is set aside: %s", self.folder / str(step), reason)
                self._set_aside(step)
        return None

    def drop_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps."""
        for later in self._manager.all_steps():
            if later > step:
                self._manager.delete(later)

    def wait(self) -> None:
        """Returns when everything saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            damaged = self.folder.parent / "damaged"
            damaged.mkdir(exist_ok=True)
            shutil.rmtree(damaged / str(step), ignore_errors=True)
            shutil.move(self.folder / str(step), damaged / str(step))
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(f"set aside {step}")
        self._manager.reload()
