"""The page of an exported model: what it consists of, what is refused, and its labels in a real browser."""

import base64
import functools
import http.server
import io
import json
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
from commands import ROOT
from PIL import Image

from mit_semseg import Segmenter
from mit_semseg.config import load_config
from mit_semseg.errors import UserError
from mit_semseg.export import write
from mit_semseg.export.opened import open_exported, read_metadata
from mit_semseg.export.web import _RUNTIME_FILES, write_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
RUNTIME = ROOT / "node_modules" / "onnxruntime-web"  # npm install onnxruntime-web
NODE = shutil.which("node")
PAGE = ROOT / "mit_semseg" / "export" / "page"
CAMVID = "camvid-efficientnet_lite0-upernet"
WAIT_S = 240  # on a busy machine

# Holds the page in a frame as narrow as a phone, and sends what it shows to the test.
FRAME = """<!DOCTYPE html><iframe style="width:390px;height:800px" src="index.html?photo=photo.png"></iframe>
<script>
const timer = setInterval(() => {
  const page = document.querySelector("iframe").contentDocument, $ = (id) => page.getElementById(id);
  if (!$("status") || ($("result").hidden && !$("status").classList.contains("error"))) return;
  clearInterval(timer);
  const overflow = page.documentElement.scrollWidth - page.documentElement.clientWidth;
  $("opacity").value = 25;
  $("opacity").dispatchEvent(new Event("input"));
  const found = { status: $("status").textContent, overlay: $("overlay").toDataURL(), overflow };
  found.opacity = $("overlay").style.opacity;
  found.legend = Array.from(page.querySelectorAll("#legend span"), (name) => name.textContent);
  fetch("found", { method: "POST", body: JSON.stringify(found) });
}, 100);
</script>"""


@pytest.fixture
def runtime(tmp_path):
    """A package with files of the right names."""
    (tmp_path / "package" / "dist").mkdir(parents=True)
    for name in _RUNTIME_FILES:
        (tmp_path / "package" / "dist" / name).write_bytes(b"runtime")
    return tmp_path / "package"


def test_a_page_has_the_model_its_metadata_and_the_runtime(call, exported, runtime, tmp_path):
    folder = tmp_path / "page"
    outcome = call("export", "--cfg", exported, "--web", folder, "--runtime", runtime)
    assert outcome.code == 0, outcome.err
    assert (folder / "model.onnx").read_bytes() == exported.read_bytes()
    about = json.loads((folder / "model.json").read_text())
    assert about["class_names"] == {"0": "brick", "1": "lawn", "2": "pool"}
    assert {file.name for file in (folder / "ort").iterdir()} == set(_RUNTIME_FILES)
    assert not list(folder.glob(".*"))


def test_the_page_needs_no_other_host():
    for file in PAGE.iterdir():
        assert not re.search(r"(https?:)?//[\w.-]+\.\w+", file.read_text(encoding="utf-8")), file
    assert "default-src 'self'" in (PAGE / "index.html").read_text(encoding="utf-8")


def test_what_cannot_become_a_page_is_refused(call, exported, runtime, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "page"
    for words, message in (
        (["--web", folder], "Run: npm install onnxruntime-web, or pass the folder"),
        (["--web", folder, "--out", "m.onnx"], "--web FOLDER contains the model: omit --out and --format"),
        (["--runtime", runtime], "--runtime is for --web"),
        (["--web", exported / "page", "--runtime", runtime], "can't be written into"),
    ):
        outcome = call("export", "--cfg", exported, *words)
        assert outcome.code == 2
        assert message in outcome.err
    assert not folder.exists()
    write_page(exported, folder, runtime)
    (folder / "style.css").write_text("mine")
    with pytest.raises(UserError, match=r"index\.html exists\. Pass --force"):
        write_page(exported, folder, runtime)
    assert (folder / "style.css").read_text() == "mine"
    write_page(exported, folder, runtime, force=True)
    assert (folder / "style.css").read_text() != "mine"


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
@pytest.mark.parametrize("size", [(48, 36), (20, 31), (97, 64)])
def test_the_page_scales_photos_as_pillow_does(size, tmp_path):
    rng = np.random.Generator(np.random.Philox(0))
    photo = Image.fromarray(rng.integers(0, 256, (36, 48, 3), dtype=np.uint8))
    (tmp_path / "pixels").write_bytes(photo.convert("RGBA").tobytes())
    shutil.copy(PAGE / "resize.js", tmp_path / "resize.mjs")
    (tmp_path / "main.mjs").write_text(
        'import { readFileSync, writeFileSync } from "fs"; import { resizeToPlanes } from "./resize.mjs";\n'
        f'writeFileSync("planes", resizeToPlanes(readFileSync("pixels"), 48, 36, {size[0]}, {size[1]}));'
    )
    subprocess.run([NODE, "main.mjs"], cwd=tmp_path, check=True, timeout=60)
    found = np.frombuffer((tmp_path / "planes").read_bytes(), np.uint8).reshape(3, size[1], size[0])
    # Rows first in any release of Pillow.
    wanted = photo.resize((size[0], 36), Image.Resampling.BILINEAR).resize(size, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found.transpose(1, 2, 0), np.asarray(wanted))


def shown(folder, profile):
    """What the page in ``folder`` shows of photo.png, in a browser that reaches no other host."""
    (folder / "frame.html").write_text(FRAME, encoding="utf-8")
    found, done = {}, threading.Event()

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

        def do_POST(self):
            found.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            done.set()

        def log_message(self, *words):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        words.append("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        address = f"http://127.0.0.1:{server.server_port}/frame.html"
        # A port to debug at keeps it open until it is ended.
        with subprocess.Popen(
            [CHROMIUM, *words, "--remote-debugging-port=0", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as browser:
            try:
                assert done.wait(WAIT_S), "the page has shown nothing"
            finally:
                browser.terminate()
                server.shutdown()
    return found


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.timeout(900)  # the export of a large network takes long on a busy machine
@pytest.mark.skipif(not RUNTIME.is_dir(), reason="npm install onnxruntime-web was not run")
def test_in_a_browser_the_labels_are_those_of_onnxruntime(tmp_path, monkeypatch):
    model = tmp_path / "camvid.onnx"
    monkeypatch.setattr(write, "compare", lambda *_: [])  # saves a minute
    Segmenter.load(load_config(CAMVID, ["DIR", str(tmp_path / CAMVID)]), device="cpu").export(model)
    write_page(model, tmp_path / "page", RUNTIME)
    with Image.open(ROOT / "docs" / "images" / "street.png") as picture:
        photo = picture.convert("RGB").crop((0, 0, picture.width // 2, picture.width // 2 * 3 // 4))
    photo = photo.resize((480, 360))  # smaller than the network's input, so that all releases of Pillow agree
    photo.save(tmp_path / "page" / "photo.png")
    found = shown(tmp_path / "page", tmp_path / "profile")
    assert found["status"].startswith("608 x 448 pixels in ")
    assert (found["overflow"], found["opacity"]) == (0, "0.25")
    pixels = np.asarray(photo.resize((608, 448), Image.Resampling.BILINEAR)).transpose(2, 0, 1)[None]
    (labels,) = open_exported(model).run(["labels"], np.ascontiguousarray(pixels))
    about = read_metadata(model)
    png = base64.b64decode(found["overlay"].partition(",")[2])
    with Image.open(io.BytesIO(png)) as overlay:
        coloured = np.asarray(overlay.convert("RGB"))
    different = (coloured != np.array(about.colors, np.uint8)[labels[0]]).any(-1)
    assert different.mean() <= 1e-4  # ties
    counts = np.bincount(labels[0].ravel(), minlength=len(about.names))
    assert found["legend"] == [about.names[k] for k in np.argsort(-counts, kind="stable") if counts[k]]
