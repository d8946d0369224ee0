"""Files in another form than a list of records, and what to do about them."""

import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from shlex import quote

_EXAMPLE = '{"fpath_img": "training/1.jpg", "fpath_segm": "training/1.png", "width": 640, "height": 480}'
_WANTED = f"A list has one JSON object per line, such as {_EXAMPLE}"
_PREPARE = "mit-semseg data prepare writes one from folders of images and labels."
_START = 2**16  # bytes that are looked at
_ARRAY = re.compile(r"\[\s*([{\"]|$)")
_PATH = re.compile(r"[^,;\t{}\"]+\.\w{3,4}")
_SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas"}


def other_form(path: Path) -> str:
    """What a file without a record in its first line seems to be, and what to do: the end of a sentence.

    Returns: "" if nothing is known about its form.
    """
    with path.open("rb") as file:
        data = file.read(_START)
    # Without a mark, text in UTF-16 has a zero byte in most pairs.
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or data.count(0) > len(data) // 4:
        return "seems to be text in UTF-16. Save it as UTF-8."
    first, _, rest = data.decode("utf-8-sig", errors="replace").lstrip().partition("\n")
    first = first.strip()
    if _ARRAY.match(first):
        code = "import json, sys; [print(json.dumps(record)) for record in json.load(sys.stdin)]"
        command = f'python -c "{code}" < {quote(str(path))} > new.odgt'
        return f"seems to be a JSON array. {_WANTED}. To rewrite it: {command}"
    if re.match(r"\{\s*'", first):
        return f"seems to hold dicts as Python prints them. {_WANTED}. json.dumps writes a dict so."
    if first.endswith("},") and _is_json(first[:-1]):
        return "has a comma after its first record. Remove the commas at the ends of its lines."
    if first == "{" and rest.lstrip().startswith('"'):
        return f"seems to hold JSON over several lines. {_WANTED}, without a line break in it."
    if first.startswith(("{", "[")):
        return ""
    separator = next((mark for mark in _SEPARATORS if mark in first), "")
    if separator:
        return f"seems to be a table, separated by {_SEPARATORS[separator]}. {_WANTED}. {_PREPARE}"
    return f"seems to be a list of paths. {_WANTED}. {_PREPARE}" if _PATH.fullmatch(first) else ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
