"""``python -m mit_semseg COMMAND`` is the same as ``mit-semseg COMMAND``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
