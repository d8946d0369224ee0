"""Do the weights that come with the project still score what docs/results.md says?

It needs the 101 validation images of CamVid, prepared as docs/results.md says, and a minute and a half on one
core.
The exit code is 1 if the mean IoU differs by more than 0.05 percentage points.

    python benchmarks/released.py data/camvid
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from mit_semseg.config import load_config
from mit_semseg.evaluation.evaluate import evaluate
from mit_semseg.runtime.distributed import find_devices

NAME = "camvid-efficientnet_lite0-upernet"
RESULTS = Path(__file__).parent.parent / "docs" / "results.md"
TOLERANCE = 0.05  # percentage points; processors round differently


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with validation.odgt")
    args = parser.parse_args()
    documented = float(
        re.search(r"\| \*\*mean IoU\*\* \| \*\*([\d.]+)", RESULTS.read_text(encoding="utf-8"))[1]
    )
    with tempfile.TemporaryDirectory() as folder:
        places = ["DIR", str(Path(folder) / NAME), "DATASET.root_dataset", str(args.data)]
        config = load_config(NAME, [*places, "DATASET.list_val", str(args.data / "validation.odgt")])
        found = 100 * evaluate(config, find_devices("cpu")).mean_iou()
    sys.stdout.write(f"Mean IoU: {found:.2f} % here, {documented:.2f} % in docs/results.md\n")
    sys.exit(abs(found - documented) > TOLERANCE)


if __name__ == "__main__":
    main()
