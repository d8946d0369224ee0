import re

import numpy as np

from mit_semseg.report.predictions import card, card_key, key_of, page

COLORS = np.array([[200, 60, 40], [60, 180, 60]], np.uint8)
IMAGE = np.zeros((8, 12, 3), np.uint8)
LABELS = np.zeros((8, 12), np.uint8)


def a_card(name, links=()):
    shares = [(0, 0.75), (1, 0.25)]
    return card(name, IMAGE, LABELS, ("brick", "<lawn>"), COLORS, shares, links)


def test_a_card_is_one_line_that_tells_its_key_whatever_the_name():
    for name in ("a.jpg", "new\nline\r.jpg", '"><script>.jpg', "\udcff.jpg", "天空 & sky.jpg"):
        line = a_card(name)
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        assert key_of(line) == card_key(name)
        assert b"<script" not in line


def test_names_that_look_alike_in_the_page_have_keys_of_their_own():
    names = ["a b.jpg", "a\nb.jpg", "a\rb.jpg", "a%20b.jpg", "a&#10;b.jpg", "a  b.jpg"]
    assert len({key_of(a_card(name)) for name in names}) == len(names)


def test_half_a_card_and_other_lines_have_no_key():
    assert key_of(a_card("a.jpg")[:-3]) is None
    assert key_of(b"<p>text</p>\n") is None


def test_a_card_names_the_classes_with_their_shares_and_its_files():
    text = a_card("a.jpg", [("sub/a%20b.png", "sub/a b.png")]).decode()
    assert "brick <small>75\N{NO-BREAK SPACE}%</small>" in text
    assert "&lt;lawn&gt; <small>25\N{NO-BREAK SPACE}%</small>" in text
    assert '<a href="sub/a%20b.png">sub/a b.png</a>' in text
    assert "background:#c83c28" in text


def test_the_page_needs_nothing_from_elsewhere():
    text = b"".join(page([a_card("a.jpg"), a_card("b.jpg")], 2, ["c.jpg is <empty>."])).decode()
    assert "2 segmented, 1 with a problem" in text
    assert "<li>c.jpg is &lt;empty&gt;.</li>" in text
    assert text.index('alt="photo of a.jpg"') < text.index('alt="photo of b.jpg"')
    assert not re.search(r"https?://|<script|<link", text)
    assert set(re.findall(r'src="([^:]+):', text)) == {"data"}


def test_the_page_reads_a_card_only_when_it_is_due():
    read = []

    def cards():
        for k in range(100):
            read.append(k)
            yield a_card(f"{k}.jpg")

    pieces = page(cards(), 100, [])
    for piece in pieces:
        if b"photo of 2.jpg" in piece:
            break
    assert read == [0, 1, 2]
    assert b"".join(pieces).count(b"<article") == 97
