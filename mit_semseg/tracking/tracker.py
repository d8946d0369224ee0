"""What a tracker takes. Each of the modules beside this one passes it to one library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

PROJECT = "mit-semseg"
"""The project or experiment of a run, unless the library's own variables name another one."""

Picture: TypeAlias = NDArray[np.uint8]  # (H, W, 3), RGB


class Ending(Enum):
    """How a run ended."""

    FINISHED = "finished"
    STOPPED = "stopped"  # by a signal; it can be resumed
    FAILED = "failed"


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker follows.

    Attributes:
        identity: under which a resumed run finds what it has tracked, see identity.py.
        folder: the folder of the run, in which a library without a server writes its files.
        config: the config as YAML text.
        keys: the same by dotted names: ``{"TRAIN.seed": 304, ...}``.
        resumed: whether the run has been tracked before.
        ended: whether its training has ended, so that only results are added.
        next_step: the first iteration that this process computes; 0 for a new run. An interrupted run may
            have reported iterations from there on, which are reported again.
        patience_s: seconds to wait for the network: at the start, and at the end for what is not sent yet.
    """

    identity: str
    folder: Path
    config: str
    keys: Mapping[str, Any]
    resumed: bool
    ended: bool = False
    next_step: int = 0
    patience_s: float = 60.0


class Tracker(Protocol):
    """A run in one library. ``step`` is the number of iterations done. Any method may raise any error."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Report numbers by name, such as ``train/loss``. None is NaN."""

    def pictures(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """Report sample predictions by name."""

    def files(self, name: str, files: Sequence[Path]) -> None:
        """Keep copies of files under a name, such as ``checkpoint-best``."""

    def flush(self) -> None:
        """Write what is only in memory to the disk."""

    def close(self, ending: Ending) -> None:
        """Send the rest, and report how the run ended."""
