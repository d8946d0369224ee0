"""CVAT: the XML for images 1.1, and the mask export."""

import pytest

from mit_semseg.errors import UserError

XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>4</id>
      <name>street</name>
      <size>2</size>
      <mode>annotation</mode>
      <labels>
        <label>
          <name>road</name>
          <color>#804080</color>
          <type>any</type>
          <attributes>
          </attributes>
        </label>
        <label>
          <name>car</name>
          <color>#00008e</color>
          <type>any</type>
          <attributes>
          </attributes>
        </label>
        <label>
          <name>ignore</name>
          <color>#000000</color>
        </label>
      </labels>
    </task>
    <dumped>2026-01-01 00:00:00.000000+00:00</dumped>
  </meta>
  {images}
</annotations>
"""
FULL = '<polygon label="road" source="manual" occluded="0" points="0.00,0.00;6.00,0.00;6.00,4.00;0.00,4.00" z_order="0"></polygon>'  # noqa: E501


@pytest.fixture
def write(tmp_path, make):
    """``write({"a.jpg": shapes})``: annotations.xml and images/ as "CVAT for images 1.1" with images."""
    source = tmp_path / "s"

    def run(shapes, subset=None, file="annotations.xml"):
        text = ""
        for k, (name, inside) in enumerate(shapes.items()):
            make.image(source / "images" / name)
            more = f' subset="{subset[name]}"' if subset else ""
            text += f'<image id="{k}" name="{name}"{more} width="6" height="4">{inside}</image>'
        (source / file).write_text(XML.replace("{images}", text))
        return source

    return run


def rows(label):
    return ["".join(map(str, row)) for row in label]


def test_all_kinds_of_areas_lie_above_each_other_by_z_order(prepare, write):
    shapes = f"""
    <box label="car" source="manual" occluded="0" xtl="0.0" ytl="0.0" xbr="2.0" ybr="1.0" z_order="2"></box>
    <mask label="car" source="manual" occluded="0" rle="1, 2, 1, 2" left="3" top="2" width="3" height="2" z_order="1"></mask>
    <ellipse label="ignore" occluded="0" cx="0.5" cy="3.5" rx="0.7" ry="0.7" z_order="1"></ellipse>
    <polyline label="car" points="0,0;1,1" z_order="0"></polyline>
    {FULL}
    """  # noqa: E501
    out = prepare("cvat", write({"a.jpg": shapes, "sub/b.jpg": FULL}))
    assert out.classes.names == ("road", "car")
    assert out.classes.colors.tolist() == [[0x80, 0x40, 0x80], [0, 0, 0x8E]]
    # The runs of the mask go along its rows: 1 outside, 2 inside; 1 outside, 2 inside.
    assert rows(out.label("a")) == ["221111", "111111", "111122", "011122"]
    assert "Without an area, and so omitted: 1 of the kind polyline." in out.said
    assert "Ignored, by their names: ignore." in out.said


def test_a_box_may_be_turned_around_its_centre(prepare, write):
    box = '<box label="car" xtl="1" ytl="1" xbr="5" ybr="3" rotation="90.0" z_order="1"></box>'
    assert rows(prepare("cvat", write({"a.jpg": FULL + box})).label("a")) == ["112211"] * 4


def test_subsets_are_splits(prepare, write):
    subsets = {"a.jpg": "Train", "b.jpg": "Validation", "c.jpg": "Test"}
    out = prepare("cvat", write(dict.fromkeys(subsets, FULL), subsets))
    assert (out.names("training"), out.names("validation")) == (["a"], ["b"])
    assert "1 image of the test part is omitted." in out.said


def test_what_is_wrong_is_named(prepare, write):
    source = write(
        {
            "a.jpg": '<mask label="car" rle="1, 2" left="0" top="0" width="2" height="2" z_order="0"></mask>',
            "b.jpg": FULL + '<polygon label="car" points="1,1;2,2"></polygon>',
            "c.jpg": FULL,
        }
    )
    (source / "more.xml").write_text("<annotations><image>")
    with pytest.raises(UserError) as raised:
        prepare("cvat", source)
    text = str(raised.value)
    assert "annotations.xml: mask 1 has run lengths that cannot be read: they have 3 pixels, but" in text
    assert "annotations.xml: polygon 2 is a polygon of 2 points; it needs three, image images/b.jpg." in text
    assert "more.xml is not XML (" in text
    (source / "more.xml").unlink()
    (source / "annotations.xml").write_text("<annotations><track id='0' label='car'></track></annotations>")
    with pytest.raises(UserError, match=r"is CVAT's XML for video. Export the task as CVAT for images 1.1."):
        prepare("cvat", source)


def test_masks_are_read_by_their_colours(prepare, make, tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    (source / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:0,0,142::\nroad:128,64,128::\n"
    )
    for name in ("a", "b"):
        make.image(source / "JPEGImages" / f"{name}.jpg")
        colors = make.full([0], (6, 4))[..., None] * [0, 0, 0]
        colors[:, 3:] = (128, 64, 128)
        make.colored(source / "SegmentationClass" / f"{name}.png", colors)
        make.colored(source / "SegmentationObject" / f"{name}.png", colors)
    lists = source / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "Train.txt").write_text("a\n")
    (lists / "Validation.txt").write_text("b\n")
    out = prepare("cvat", source)
    assert out.classes.names == ("background", "car", "road")
    assert (out.names("training"), out.names("validation")) == (["a"], ["b"])
    assert (out.label("a") == [1, 1, 1, 3, 3, 3]).all()
    for option in (("--background",), ("--overlap", "smaller")):
        with pytest.raises(
            UserError, match=rf"{option[0]} is for exports of shapes, but this one holds label"
        ):
            prepare("cvat", source, *option)


def test_a_shape_without_a_class_is_named(prepare, write):
    source = write({"a.jpg": FULL + FULL.replace('"road"', '" "'), "b.jpg": FULL})
    with pytest.raises(UserError, match=r"annotations.xml: shape 2 has no class, image images/a.jpg\."):
        prepare("cvat", source)
