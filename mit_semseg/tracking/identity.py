"""``DIR/run.json``: the identity and the config of a run, from its start on.

``config.yaml`` appears only with the first saved state, because a run without one can be started again with
another config.
"""

import json
import uuid
from pathlib import Path
from typing import Any

from ..runtime.files import replacing

NAME = "run.json"


def read_identity(folder: Path) -> dict[str, Any]:
    """The content of ``run.json``: ``id`` and ``config``, both text; {} without a usable file."""
    try:
        content = json.loads((folder / NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    fits = isinstance(content, dict) and all(isinstance(content.get(key), str) for key in ("id", "config"))
    return content if fits else {}


def write_identity(folder: Path, config: str, *, resumed: bool) -> tuple[str, bool]:
    """Record the config of a run that starts now.

    Args:
        config: as YAML text.
        resumed: keep the identity that the folder has.

    Returns: the identity, and whether it was there before.
    Raises: UserError if the file cannot be written.
    """
    known = read_identity(folder).get("id", "") if resumed else ""
    identity = known or uuid.uuid4().hex[:12]
    with replacing(folder / NAME) as file:
        file.write((json.dumps({"id": identity, "config": config}, indent=1) + "\n").encode())
    return identity, bool(known)
