"""The formats by name. A new one is a file with a ``read`` and a line here (and one in `command.FORMATS`)."""

from collections.abc import Callable

from .ade20k import read as ade20k
from .ade20k_full import read as ade20k_full
from .camvid import read as camvid
from .cityscapes import read as cityscapes
from .coco_stuff import read as coco_stuff
from .folders import read as folders
from .labelme import read as labelme
from .options import Options
from .release import Release
from .rgb import read as rgb
from .source import Source
from .voc import read as voc

READERS: dict[str, Callable[[Source, Options], Release]] = {
    "folders": folders,
    "ade20k": ade20k,
    "ade20k-full": ade20k_full,
    "cityscapes": cityscapes,
    "voc": voc,
    "camvid": camvid,
    "coco-stuff": coco_stuff,
    "rgb": rgb,
    "labelme": labelme,
}
