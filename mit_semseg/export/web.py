"""A static page that segments photos in a browser with an exported model and onnxruntime-web."""

import json
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from ..errors import UserError
from ..runtime.files import check_writable, unwritable
from .opened import read_metadata

_PAGE = ("index.html", "style.css", "page.js", "worker.js", "resize.js")
_MODEL, _DESCRIPTION, _RUNTIME = "model.onnx", "model.json", "ort"
_MODULES = "node_modules/onnxruntime-web"  # where `npm install` puts it
_RUNTIME_FILES = (
    *("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    # The same with WebGPU; a browser loads either.
    *("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
)


def check_page(folder: str | Path, runtime: str | Path = "", *, force: bool = False) -> list[Path]:
    """Check all that a page needs besides its model.

    Args:
        folder: of the page.
        runtime: the unpacked npm package onnxruntime-web; by default that in ``node_modules``.
        force: replace an existing page.

    Returns: the files of the runtime.
    Raises: UserError if the runtime is not there, if the folder has a page, or if it cannot be written into.
    """
    folder, package = Path(folder), Path(runtime or _MODULES)
    files = [package / "dist" / name for name in _RUNTIME_FILES]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise UserError(
            f"{missing} does not exist. The page needs the npm package onnxruntime-web, 1.24 or newer. Run: "
            "npm install onnxruntime-web, or pass the folder of the unpacked package with --runtime."
        )
    existing = next((folder / name for name in (*_PAGE, _MODEL) if (folder / name).exists()), None)
    if existing is not None and not force:
        raise UserError(f"{existing} exists. Pass --force to replace it, or another folder.")
    check_writable(folder, "--web")
    return files


def write_page(
    model: str | Path, folder: str | Path, runtime: str | Path = "", *, force: bool = False
) -> Path:
    """Write a page that needs no other host and no server but one that sends files.

    Args:
        model: an exported ``.onnx`` file.
        folder, runtime, force: see `check_page`.

    Returns: the page.
    Raises: UserError as `check_page`, and if the model cannot be used.
    """
    folder = Path(folder)
    files = check_page(folder, runtime, force=force)
    metadata = read_metadata(model)
    if metadata.bands is not None:
        raise UserError(
            f"{model} takes images with {metadata.bands.channels} bands, but browsers decode 8-bit RGB "
            "only. Use it with test.py or the Python interface."
        )
    values = {key: json.loads(text) for key, text in metadata.as_texts().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".page.", dir=folder) as place:
            new = Path(place)
            (new / _RUNTIME).mkdir()
            for file in files:
                shutil.copyfile(file, new / _RUNTIME / file.name)
            shutil.copyfile(model, new / _MODEL)
            (new / _DESCRIPTION).write_text(json.dumps(values), encoding="utf-8")
            for name in _PAGE:
                text = resources.files(__package__).joinpath("page", name).read_text(encoding="utf-8")
                (new / name).write_text(text, encoding="utf-8")
            (folder / _RUNTIME).mkdir(exist_ok=True)
            for file in sorted(new.rglob("*.*"), key=lambda file: file.name == "index.html"):  # the page last
                file.replace(folder / file.relative_to(new))
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder / "index.html"
