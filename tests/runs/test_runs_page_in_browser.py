"""The page that compares runs in a real browser, where there is one."""

import re
import shutil
import subprocess

import pytest
from runs_on_disk import write_run, write_strip

from mit_semseg.runs.listing import find_runs
from mit_semseg.runs.page import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

# The page in a frame: a browser without a window is never as narrow as a phone.
FRAME = """<!DOCTYPE html><iframe style="width:390px;height:800px;border:0" src="page.html"></iframe>
<pre id="found"></pre><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument, found = {};
  const shown = () => Array.from(page.querySelectorAll('[data-run="0"]'))
    .filter((part) => part.getBoundingClientRect().width > 0).length;
  found.overflow = page.documentElement.scrollWidth - page.documentElement.clientWidth;
  found.before = shown();
  const button = page.querySelector("#toggles button");
  button.click();
  found.hidden = shown();
  button.click();
  found.after = shown();
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>"""


def test_it_fits_a_phone_and_the_legend_hides_and_shows_a_run(tmp_path):
    rows = [
        "0.5,1,2.0,40.0,0.1,0.1,,",
        "1.0,2,1.0,60.0,0.1,0.1,,",
        "1.0,2,,,,,0.25,50.0",
        "2.0,4,,,,,0.5,60.0",
    ]
    for name, seed in (("a-long-name-of-an-experiment_with_many_words_in_it", 1), ("b", 2)):
        folder = write_run(tmp_path / "runs" / name, rows, TRAIN__seed=seed)
        write_strip(folder / "samples" / "1.jpg.png", (255, 0, 0), 60, 80)
    (tmp_path / "page.html").write_text(render(find_runs(tmp_path / "runs"), "runs"))
    (tmp_path / "frame.html").write_text(FRAME)
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *("--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--window-size=1300,900", "--virtual-time-budget=5000", "--dump-dom"),
            (tmp_path / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr
    # The row of the table stays; three curves, two cells and a prediction are hidden.
    assert found[1] == '{"overflow":0,"before":7,"hidden":1,"after":7}'
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
