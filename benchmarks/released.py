"""Do the weights that come with the project still score what their cards say?

It needs the 101 validation images of CamVid, prepared as docs/results.md says, and minutes. It exits with 1
if a mean IoU differs by more than 0.05 percentage points.

    python benchmarks/released.py data/camvid
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from mit_semseg.config import load_config
from mit_semseg.evaluation.evaluate import evaluate
from mit_semseg.runtime.devices import find_devices

RELEASED = Path(__file__).parent.parent / "ckpt" / "released"
TOLERANCE = 0.05  # percentage points; processors round differently


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with validation.odgt")
    args = parser.parse_args()
    differ = False
    for card in sorted(RELEASED.glob("*/README.md")):
        name = card.parent.name
        documented = float(re.search(r"mean IoU ([\d.]+) %", card.read_text(encoding="utf-8"))[1])
        with tempfile.TemporaryDirectory() as folder:
            places = ["DIR", str(Path(folder) / name), "DATASET.root_dataset", str(args.data)]
            config = load_config(name, [*places, "DATASET.list_val", str(args.data / "validation.odgt")])
            found = 100 * evaluate(config, find_devices("cpu")).mean_iou()
        sys.stdout.write(f"{name}: mean IoU {found:.2f} % here, {documented:.2f} % on its card\n")
        differ |= abs(found - documented) > TOLERANCE
    sys.exit(differ)


if __name__ == "__main__":
    main()
