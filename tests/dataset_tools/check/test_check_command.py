"""The command on files: what it prints, writes and returns."""

import argparse
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mit_semseg.dataset_tools.check.command import add_arguments, run
from mit_semseg.errors import UserError


class Folder:
    """A folder of pairs and lists of them."""

    def __init__(self, path):
        self.path = path
        self.rng = np.random.Generator(np.random.Philox(2))

    def image(self, name, width=60, height=40, **options):
        pixels = self.rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(self.path / name, **options)

    def label(self, name, width=60, height=40, values=(0, 1, 2, 3)):
        pixels = self.rng.choice(np.array(values, np.uint8), (height, width))
        Image.fromarray(pixels).save(self.path / name)

    def pair(self, name, **sizes):
        self.image(f"{name}.jpg", **sizes)
        self.label(f"{name}.png", **sizes)

    def list(self, *names, name="training.odgt", **changes):
        records = [
            {"fpath_img": f"{k}.jpg", "fpath_segm": f"{k}.png", "width": 60, "height": 40, **changes}
            for k in names
        ]
        (self.path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
        return self.path / name


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / "data")
    made.path.mkdir()
    return made


@pytest.fixture
def check(capsys):
    """The command in this process: exit code and what it printed."""

    def call(*words):
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        code = run(parser.parse_args([*map(str, words)]))
        return code, capsys.readouterr().out

    return call


def test_the_whole_report_on_two_good_pairs(folder, check):
    for name, size in (("a", (60, 40)), ("b", (30, 50))):
        folder.image(f"{name}.jpg", *size)
        pixels = np.ones(size[::-1], np.uint8)
        pixels[: size[1] // 2] = 2 if name == "a" else 0
        Image.fromarray(pixels).save(folder.path / f"{name}.png")
    path = folder.list("a")
    path.write_text(path.read_text() + folder.list("b", name="b.odgt", width=30, height=50).read_text())
    code, out = check(path, "--num-class", 2, "--workers", 0)
    assert out == (
        "Lists           training.odgt\n"
        "  records                   2\n"
        "  images read               2\n"
        "  landscape                 1\n"
        "  portrait                  1\n"
        "  square                    0\n"
        "  smallest            30 x 50\n"
        "  median              30 x 50\n"
        "  largest             60 x 40\n"
        "  image modes             RGB\n"
        "  label modes               L\n"
        "\n"
        f"Root folder: {folder.path}\n"
        "Classes: 2, with the values 1 to 2; 0 unlabelled.\n"
        "\n"
        "Classes                training.odgt\n"
        "                      pixels  labels\n"
        "  1  class 1          61.90%       2\n"
        "  2  class 2          38.10%       1\n"
        "     (unlabelled)     19.23%\n"
        "\n"
        "No problems in 2 records.\n"
    )
    assert code == 0


def test_all_problems_are_found_at_once_each_with_its_fix(folder, check):
    for name in ("good", "size", "listed", "beyond", "cut", "twice"):
        folder.pair(name)
    folder.label("size.png", 30, 20)
    folder.label("beyond.png", values=(1, 7))
    data = (folder.path / "cut.jpg").read_bytes()
    (folder.path / "cut.jpg").write_bytes(data[: len(data) // 2])
    shutil.copy(folder.path / "twice.jpg", folder.path / "copy.jpg")
    folder.label("copy.png")
    path = folder.list("good", "size", "beyond", "none", "cut", "twice", "copy")
    bad = [
        '{"fpath_img": "../../etc/passwd", "fpath_segm": "good.png"}',
        '{"fpath_img": "listed.jpg", "fpath_segm": "listed.png", "width": 40, "height": 60}',
    ]
    path.write_bytes(path.read_bytes() + "\n".join(bad).encode() + b'\n{"fpath_img": "\xe4.jpg"}\n')
    code, out = check(path, "--num-class", 3, "--workers", 1, "--json", folder.path / "report.json")
    report = json.loads((folder.path / "report.json").read_text())
    assert {problem["kind"]: problem["count"] for problem in report["problems"]} == {
        "unusable_line": 2,
        "missing": 2,
        "truncated": 1,
        "size_mismatch": 1,
        "listed_size": 1,
        "beyond": 1,
        "duplicate_content": 1,
    }
    assert (code, report["ok"]) == (1, False)
    for problem in report["problems"]:
        assert len(problem["places"]) == problem["count"]
        assert f"  {problem['title']}: {problem['count']}\n" in out
        assert problem["fix"].split()[0] in out
    unusable, missing, *_, copy = report["problems"]
    assert unusable["places"][0] == {
        "list": str(path),
        "line": 8,
        "image": None,
        "label": None,
        "file": "line",
        "window": None,
        "detail": "has '../../etc/passwd' for \"fpath_img\", which leads out of the root folder",
        "other": None,
    }
    assert "      training.odgt:10 is not UTF-8 text\n" in out
    assert [place["file"] for place in missing["places"]] == ["image", "label"]
    assert copy["places"][0]["other"] == {"list": str(path), "line": 6, "image": "twice.jpg", "window": None}
    assert "      training.odgt:7 copy.jpg = training.odgt:6 twice.jpg (their labels differ)\n" in out
    assert out.endswith(
        f"\n7 kinds of problems in 8 records.\nThe complete report is in {folder.path / 'report.json'}.\n"
    )


def test_the_text_shows_the_first_few_files_and_the_json_all(folder, check):
    path = folder.list(*range(20))
    _, out = check(path, "--workers", 0, "--json", folder.path / "report.json")
    assert "  Missing files: 40\n      training.odgt:1 0.jpg\n      training.odgt:1 0.png\n" in out
    assert "      ... and 35 more\n" in out
    assert "19.png" not in out
    assert "Classes: unknown, because no label could be read.\n\nProblems\n" in out
    (missing,) = json.loads((folder.path / "report.json").read_text())["problems"]
    assert missing["places"][-1]["label"] == "19.png"
    assert missing["places"][-1]["line"] == 20


def test_a_config_gives_lists_root_classes_and_names(tiny, check):
    code, out = check("--cfg", tiny.config, "--workers", 1)
    assert code == 0, out
    assert "training.odgt   validation.odgt" in out
    assert f"Root folder: {tiny.folder}\n" in out
    assert "  2  lawn" in out
    code, out = check("--cfg", tiny.config, "--num-class", 2, "--workers", 0)
    assert code == 1
    assert "Labels with values beyond the classes" in out
    assert "class 2" in out  # the config's names are those of its own three classes


def test_an_image_for_training_and_validation_is_a_leak(own_tiny, check):
    shutil.copy(own_tiny.folder / "training/0.jpg", own_tiny.folder / "validation/0.jpg")
    code, out = check("--cfg", own_tiny.config, "--workers", 0)
    assert "  Images in two lists: 1\n      validation.odgt:1 validation/0.jpg = training.odgt:1" in out
    assert code == 1


def test_one_list_for_both_is_checked_once_and_said(own_tiny, check):
    text = own_tiny.config.read_text().replace("validation.odgt", "training.odgt")
    own_tiny.config.write_text(text)
    code, out = check("--cfg", own_tiny.config, "--workers", 0)
    assert "  The same list for training and validation\n" in out
    assert "1 kind of problem in 6 records.\n" in out
    assert code == 1


def test_training_lists_need_sizes_and_others_do_not(own_tiny, check):
    records = own_tiny.records("training")
    for record in records:
        del record["width"]
    path = own_tiny.folder / "training.odgt"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    _, out = check("--cfg", own_tiny.config, "--workers", 0)
    assert 'training.odgt:1 has no "width"' in out
    code, out = check(path, "--workers", 0)
    assert code == 0
    assert "  Lines without width and height: 6\n" in out


def test_names_cannot_write_to_the_terminal(folder, check):
    path = folder.list("\x1b[2J\n")
    _, out = check(path, "--workers", 0)
    assert r"training.odgt:1 \x1b[2J\n.jpg" in out
    assert "\x1b" not in out


def test_many_classes_are_shown_by_their_share(folder, check):
    folder.image("a.jpg", 100, 100)
    values = np.repeat(np.arange(1, 101), np.arange(1, 101))
    Image.fromarray(np.resize(values, (100, 100)).astype(np.uint8)).save(folder.path / "a.png")
    path = folder.list("a", width=100, height=100)
    _, out = check(path, "--workers", 0)
    rows = out[out.index("Classes, the most frequent first") :].splitlines()
    assert rows[2].startswith("   99  class 99")
    assert rows[22].strip() == "... 70 more ..."
    assert rows[33].startswith("       (unlabelled)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Name a list to check"),
        (["none.odgt"], "none.odgt does not exist"),
        (["{list}", "--json", "nowhere/r.json"], "--json nowhere/r.json is not in a folder"),
        (["{list}", "--json", "{folder}"], "is a folder. Name a file"),
        (
            ["{list}", "--num-class", "70000"],
            "70000 classes from value 1 up do not fit into 16-bit labels",
        ),
    ],
)
def test_mistakes_in_the_call_are_named_before_anything_is_read(folder, check, words, message):
    places = {"list": str(folder.list("a")), "folder": str(folder.path)}
    with pytest.raises(UserError) as caught:
        check(*(word.format(**places) for word in words))
    assert message in str(caught.value)


@pytest.mark.parametrize("words", [["--num-class", "0"], ["--label-offset", "-1"], ["--workers", "x"]])
def test_numbers_out_of_range_are_refused(check, capsys, words):
    with pytest.raises(SystemExit) as caught:
        check("x.odgt", *words)
    assert caught.value.code == 2
    assert "is not a whole number of at least" in capsys.readouterr().err


def test_the_files_are_left_as_they_were(folder, check):
    folder.pair("a")
    path = folder.list("a")
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.path.iterdir()}
    check(path, "--workers", 1)
    assert {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.path.iterdir()} == before


def test_a_report_does_not_replace_a_file_that_may_be_an_input(call, own_tiny):
    before = own_tiny.config.read_bytes()
    refused = call("data", "check", "--cfg", own_tiny.config, "--json", own_tiny.config)
    assert refused.code == 2
    assert "exists, and may be an input. Name a new file, or one that ends with .json." in refused.err
    assert own_tiny.config.read_bytes() == before
