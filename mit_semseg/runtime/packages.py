"""Optional packages, which are imported where they are needed."""

import importlib
from typing import Any

from ..errors import UserError


def require(package: str, why: object, install: str = "") -> Any:
    """The module ``package``. Raises: UserError with the command that installs it, if it is missing."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise UserError(f"{why} needs the package {package}. Run: pip install {install or package}") from None
