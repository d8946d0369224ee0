"""Score a trained model: python eval_multipro.py --gpus 0-3 --cfg config/X.yaml [KEY VALUE ...]"""

import sys

from mit_semseg.cli import script

if __name__ == "__main__":
    sys.exit(script("eval"))
