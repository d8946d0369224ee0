"""Segment images: python test.py --imgs img.jpg --gpu 0 --cfg config/X.yaml [KEY VALUE ...]"""

import sys

from mit_semseg.cli import script

if __name__ == "__main__":
    sys.exit(script("test"))
