"""Runs a program in an interpreter without torch and this package: python without_torch.py FILE ..."""

import runpy
import sys

for name in ("torch", "torchvision", "mit_semseg"):
    sys.modules[name] = None  # an import of it raises ModuleNotFoundError
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
