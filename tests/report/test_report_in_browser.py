"""The report in a real browser, where there is one."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from mit_semseg.config import load_config
from mit_semseg.data.classes import ClassTable, palette
from mit_semseg.evaluation.results import write_results
from mit_semseg.evaluation.tally import Tally

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

# Pages that hold the report in a frame: a browser without a window is never as narrow as a phone.
FRAME = """<!DOCTYPE html><iframe style="width:{width}px;height:800px;border:0" src="report.html"></iframe>
<pre id="found"></pre><script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument, found = {{}};
  const all = (query) => Array.from(page.querySelectorAll(query));
  const rows = () => all("#classes tbody tr").map((row) => row.dataset.label).join("");
  const click = (key) => page.querySelector(`#sort [data-key=${{key}}]`).click();
  found.overflow = page.documentElement.scrollWidth - page.documentElement.clientWidth;
  found.foreign = all("img").filter((image) => !image.src.startsWith("data:")).length;
  const lines = (cell) => {{
    const range = page.createRange();
    range.selectNodeContents(cell);
    return new Set(Array.from(range.getClientRects(), (box) => Math.round(box.top))).size;
  }};
  const numbers = all("#classes td[data-title]");
  found.broken = numbers.filter((cell) => lines(cell) > 1).map((cell) => cell.textContent);
  found.first = rows();
  for (const key of ["name", "iou", "iou", "pixels", "label"]) {{
    click(key);
    found[key] = (found[key] || "") + rows() + " ";
  }}
  const heat = page.getElementById("heat");
  if (heat) {{
    const box = heat.getBoundingClientRect();
    heat.dispatchEvent(new MouseEvent("click", {{clientX: box.left + 1, clientY: box.top + 1}}));
    found.readout = page.getElementById("readout").textContent;
  }}
  document.getElementById("found").textContent = JSON.stringify(found);
}};
</script>"""


def written(folder, names, images):
    table = ClassTable(tuple(names), palette(len(names)))
    tally = Tally(table, boundary=True)
    for index, (prediction, label) in enumerate(images):
        item = {"info": f"{index}.jpg", "img_ori": np.zeros((*label.shape, 3), np.uint8)}
        tally.include(tally.score(index, item, label, prediction))
    config = load_config(None, ["DATASET.num_class", str(len(names))])
    return write_results(folder, tally, table, config, [])


def opened(folder, width):
    """What the page's script found, as text, and what the browser logged as coming from a page."""
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(width=width))
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *("--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"),
            *("--window-size=1300,900", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr
    return found[1], [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [390, 1200])
def test_it_opens_sorts_and_logs_no_error(tmp_path, width):
    label = np.array([[0, 0, 0, 0, 1, 1, 1, 2, 2, -1]])
    prediction = np.array([[0, 0, 0, 1, 1, 1, 1, 0, 1, 0]])  # IoU: pole 3/5, building 3/5, arch 0
    large = [np.kron(row, np.ones((200, 40), int)) for row in (prediction, label)]
    written(tmp_path, ["pole", "building, such as a house or a wall", "arch", "train"], [large] * 2)
    found, logged = opened(tmp_path, width)
    assert logged == []
    assert '"overflow":0' in found
    assert '"foreign":0' in found
    assert '"broken":[]' in found  # no number continues on a second line
    assert '"first":"0123"' in found
    assert '"name":"2103 "' in found
    assert '"iou":"2013 1023 "' in found  # what has no IoU stays last
    assert '"pixels":"0123 "' in found
    assert '"label":"0123 "' in found


def test_a_matrix_of_150_classes_names_the_cell_and_the_page_scrolls_down_only(tmp_path):
    rng = np.random.Generator(np.random.Philox(3))
    names = [f"a class with the long name {'x' * (k % 40)} {k}" for k in range(150)]
    label = np.append(np.arange(150), np.zeros(10, int))[None]
    prediction = np.where(rng.random(label.shape) < 0.5, label, 0)
    written(tmp_path, names, [(prediction, label)] * 2)
    found, logged = opened(tmp_path, 390)
    assert logged == []
    assert '"overflow":0' in found
    assert '"readout":"a class with the long name  0 found: 100.0 % of its pixels (22)"' in found
