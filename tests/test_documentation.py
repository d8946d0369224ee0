"""README, docs/ and the other pages: their links, paths and config keys exist."""

import ast
import re

import pytest
from commands import ROOT

from mit_semseg.config.keys import KEYS, SECTIONS

PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "ckpt/**/*.md", "benchmarks/results/*.md")
    for path in ROOT.glob(pattern)
)
NAMES = {key.name for key in KEYS} | {key.formerly for key in KEYS if key.formerly}


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(page):
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_code_exist(page):
    for path in re.findall(r"`((?:mit_semseg|tests|benchmarks|demo|docs)/[\w/.-]*)", text(page)):
        if path != "mit_semseg/models/encoders/tiny.py":  # the example of a new encoder
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES)
def test_config_keys_exist(page):
    for name in re.findall(rf"\b(?:{'|'.join(SECTIONS)})\.\w+", text(page)):
        assert name in NAMES, name


def test_every_page_is_reached_from_the_readme():
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", text("README.md")))
    assert {page for page in PAGES if page.startswith("docs/")} <= linked


def texts_of_the_package():
    """The strings in its code; the parts that differ from call to call are dots."""
    for path in sorted((ROOT / "mit_semseg").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_messages_of_the_troubleshooting_are_those_of_the_package():
    headings = re.findall(r"^\*\*(.+?)\*\*", text("docs/troubleshooting.md"), re.MULTILINE)
    messages = [message for heading in headings for message in re.findall(r"`([^`]+)`", heading)]
    messages = [message for message in messages if message not in ("mit_semseg", "ModuleNotFoundError")]
    texts = list(texts_of_the_package())
    assert len(messages) >= 20
    for message in messages:
        pattern = ".*".join(re.escape(part.strip()) for part in message.split("…"))
        assert any(re.search(pattern, each, re.DOTALL) for each in texts), message


def test_nothing_says_to_install_the_old_package_of_the_same_name():
    files = [*(str(path.relative_to(ROOT)) for path in (ROOT / "mit_semseg").rglob("*.py")), *PAGES]
    assert [file for file in files if "mit-semseg[" in text(file)] == []
