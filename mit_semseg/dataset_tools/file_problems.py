"""Problems of files of which many windows are read: each is said once, not for each window that meets it."""

from ..data.scenes import DamagedSceneError, ImpossibleLabelError
from ..errors import UserError

_SHOWN = 20  # messages


class FileProblems:
    """The problems met so far, in their order."""

    def __init__(self) -> None:
        self._messages: dict[tuple[str, str], str] = {}

    def __bool__(self) -> bool:
        return bool(self._messages)

    def add(self, error: UserError, where: str = "") -> None:
        """Adds an error, unless it is known.

        Args:
            where: a sentence on its place, such as "See line 3 of a.odgt."
        """
        if isinstance(error, DamagedSceneError) and error.places:
            for place in error.places:
                message = str(DamagedSceneError(error.path, (place,), error.reason))
                message = message.replace("is damaged in 1 of its tiles:", "is damaged:")
                self._messages.setdefault((error.path, place), f"{message} {where}".strip())
        elif isinstance(error, ImpossibleLabelError):
            self._messages.setdefault((error.path, "value"), f"{error}. {where}".strip())
        else:
            self._messages.setdefault(("", str(error)), f"{error} {where}".strip())

    def text(self) -> str:
        """A line for each of the first problems, and the number of the others."""
        lines = list(self._messages.values())
        more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        return "\n".join(lines[:_SHOWN] + more)
