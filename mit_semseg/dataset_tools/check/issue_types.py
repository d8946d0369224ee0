"""The types of problems and notes, in the order in which they are reported, each with its fix.

The fix of a type that `data.label_diagnosis.diagnose` finds depends on the values, so it is empty here.
"""

from dataclasses import dataclass

from ...data.label_diagnosis import NO_WAY
from ...data.label_files import FIXES
from ...data.orientation import UNDECIDED_FIX, UPRIGHT_FIX


@dataclass(frozen=True, slots=True)
class IssueType:
    """A type of problem or note. ``{first}`` and ``{last}`` in the fix are the values of the classes."""

    title: str
    fix: str
    note: bool = False
    """Worth knowing, but nothing must be done, and the exit code stays 0."""


ISSUE_TYPES = {
    "unusable_line": IssueType(
        "Unusable lines of the list",
        "Correct these lines, or write the list again with `mit-semseg data prepare`; training refuses the "
        "whole list.",
    ),
    "missing": IssueType(
        "Missing files",
        "Check the root folder (--root, DATASET.root_dataset) and the spelling, including upper and lower "
        "case; fetch the missing files or drop their lines.",
    ),
    "unreadable": IssueType("Unreadable files", "Make these files readable, or drop their lines."),
    "empty": IssueType("Empty files", "Fetch these files again or drop their lines."),
    "not_an_image": IssueType(
        "Files that are not images",
        "Fetch these files again (a Git LFS pointer with `git lfs pull`) or drop their lines.",
    ),
    "truncated": IssueType("Truncated files", "Fetch these files again or drop their lines."),
    "damaged": IssueType("Damaged files", "Fetch these files again or drop their lines."),
    "zero_size": IssueType("Images without a pixel", "Fetch these files again or drop their lines."),
    "bomb": IssueType(
        "Decompression bombs",
        "Drop these lines, or scale the images down if they are really that large.",
    ),
    "crash": IssueType(
        "Files that kill the decoder",
        "Drop these lines, or save the images again with another program; a large image may only need more "
        "memory than is available.",
    ),
    "hang": IssueType(
        "Files that the decoder does not finish",
        "Check the disk that holds them, then drop these lines or save the images again.",
    ),
    "image_mode": IssueType(
        "Images whose values have an unknown range", "Save these images with 8 or 16 bits a channel."
    ),
    "needs_bands": IssueType(
        "Images that are not 8-bit RGB",
        "Set DATASET.channels, and DATASET.bands if not all of them are to be read, and compute their "
        "statistics with `mit-semseg data stats`; see docs/bands.md.",
    ),
    "band_missing": IssueType(
        "Images without the bands of the config",
        "Correct DATASET.channels and DATASET.bands, or drop these lines.",
    ),
    "band_types": IssueType(
        "Images with different numbers or types of bands",
        "Convert them to one type and one order of bands: all images are scaled by the same statistics.",
    ),
    "label_rgb": IssueType("Labels that hold colours", FIXES["label_rgb"]),
    "label_gray_in_rgb": IssueType("Labels with one channel, saved as three", FIXES["label_gray_in_rgb"]),
    "label_float": IssueType("Labels with whole numbers as floating point", FIXES["label_float"]),
    "label_fraction": IssueType("Labels with floating-point values", FIXES["label_fraction"]),
    "label_alpha": IssueType("Labels with an alpha channel", FIXES["label_alpha"]),
    "label_mode": IssueType("Labels with a wrong mode", FIXES["label_mode"]),
    "label_mixed": IssueType("Labels with mixed values", FIXES["label_mixed"]),
    "label_pages": IssueType("Labels with several images in a file", FIXES["label_pages"]),
    "label_impossible": IssueType(
        "Labels with values that cannot be class numbers",
        "Class numbers are 0 to 65535. If such a value means unlabelled, say so in the file: "
        "rio edit-info --nodata VALUE LABEL",
    ),
    "label_lossy": IssueType("Labels with lossy compression", FIXES["label_lossy"]),
    "size_mismatch": IssueType(
        "Labels whose size differs from their image's",
        "Find the label of that image, or scale the label with nearest-neighbour interpolation, so that each "
        "pixel of the image has its value.",
    ),
    "misplaced": IssueType(
        "Labels that do not lie on their scenes",
        "Warp these labels onto their images: rio warp --like IMAGE --resampling nearest",
    ),
    "outside": IssueType(
        "Windows that leave their scene",
        "Write the list again with `mit-semseg data scenes`.",
    ),
    "exif_rotated": IssueType("EXIF-rotated images whose labels fit the upright view", UPRIGHT_FIX),
    "listed_size": IssueType(
        "Width or height in the list differs from the file's",
        "Write the list again with `mit-semseg data prepare`; training groups images by the orientation "
        "that the list gives.",
    ),
    "beyond": IssueType("Labels with values beyond the classes", ""),
    "binary_mask": IssueType("Masks of one object", ""),
    "soft_edges": IssueType("Masks with soft edges", ""),
    "scaled": IssueType("Class numbers that were scaled to be visible", ""),
    "nothing_labelled": IssueType("No labelled pixel in a list", NO_WAY["nothing_labelled"]),
    "leak": IssueType(
        "Images in two lists",
        "Remove them from one of the lists: scores on training images are meaningless.",
    ),
    "overlap": IssueType(
        "Windows that show ground of another list",
        "Write both lists together with `mit-semseg data scenes`, which divides the ground: scores on "
        "ground that trains are too high.",
    ),
    "several_systems": IssueType(
        "Scenes with several reference systems",
        "Warp them to one (rio warp --dst-crs, labels with --resampling nearest): ground that two lists "
        "share is not found across systems.",
    ),
    "same_list": IssueType(
        "The same list for training and validation",
        "Set DATASET.list_val to other images: scores on training images are meaningless.",
    ),
    "shared_sequence": IssueType(
        "Training and validation may share sequences",
        "If these are parts of the same recordings, scores on validation are too high for new recordings. "
        "Divide the images by recording with `mit-semseg data split`.",
        note=True,
    ),
    "shared_scene": IssueType(
        "Training and validation have windows of the same scenes",
        "None needed if you want the score on other parts of these scenes. For the score on new scenes, "
        "validate on scenes that do not train.",
        note=True,
    ),
    "near_duplicate": IssueType(
        "Images that look like one in another list",
        "Look at these pairs. If they show the same scene, as frames of a video do, scores on validation are "
        "too high: keep such images in one list, as with `mit-semseg data split`.",
        note=True,
    ),
    "duplicate_record": IssueType(
        "Images listed twice", "Drop the later lines, unless they give an image more weight on purpose."
    ),
    "duplicate_content": IssueType(
        "Different files with the same image",
        "Drop the later lines; if the labels differ, keep the line with the right one.",
    ),
    "shared_label": IssueType("One label for several images", "Give each image its own label."),
    "no_size": IssueType(
        "Lines without width and height",
        "Training needs them, scoring does not; `mit-semseg data prepare` writes them.",
        note=True,
    ),
    "exif_stored": IssueType(
        "EXIF-rotated images whose labels fit the stored pixels",
        "None needed: training and scoring use both as they are stored.",
        note=True,
    ),
    "exif_undecided": IssueType(
        "EXIF-rotated images whose size does not show whether the label is rotated too",
        UNDECIDED_FIX,
        note=True,
    ),
    "constant_band": IssueType(
        "Images in which a band holds a single value",
        "Look at some of them: the band may be missing, or its value may stand for no data (DATASET.nodata).",
        note=True,
    ),
    "mostly_nodata": IssueType(
        "Images that are mostly without data", "Drop these lines: they cost time and train little.", note=True
    ),
    "nodata": IssueType("Pixels without data", "None needed: training and scores ignore them.", note=True),
    "palette": IssueType(
        "Labels with a palette",
        "None needed: the index of a pixel is its value, and the colours are not read.",
        note=True,
    ),
    "label_nodata": IssueType(
        "Labels with a value for no data",
        "None needed: the file itself names this value (GDAL_NODATA), and its pixels are unlabelled. If it "
        "is a class, remove the tag.",
        note=True,
    ),
    "label_16bit": IssueType("Labels with 16 bits", "None needed: they are read as they are.", note=True),
    "one_class": IssueType("Pixels of one class only", "", note=True),
    "off_by_one": IssueType("Values that may be off by one", "", note=True),
    "no_labelled_pixel": IssueType(
        "Labels without a labelled pixel", "Drop these lines: they cost time and train nothing.", note=True
    ),
    "same_label_content": IssueType(
        "Different images with equal labels",
        "Look at some of them: frames of a video may have equal labels, but mixed-up file names look the "
        "same.",
        note=True,
    ),
    "mirrored": IssueType(
        "Labels that may be mirrored against their image",
        "Look at some of them: the borders in the label lie on edges of the image only if it is mirrored.",
        note=True,
    ),
    "moved": IssueType(
        "Labels that may be shifted against their image",
        "Look at some of them: the borders in the label lie on edges of the image only if it is moved.",
        note=True,
    ),
    "mostly_unlabelled": IssueType(
        "Most pixels are unlabelled",
        "If {below} is a class of its own (background), set DATASET.label_offset {below}.",
        note=True,
    ),
    "class_missing": IssueType(
        "Classes that never occur",
        "Check DATASET.num_class and the label map; a rare class may need more images.",
        note=True,
    ),
    "class_untrained": IssueType(
        "Classes in validation that are not in training",
        "Split the images again, so that each class is in both lists.",
        note=True,
    ),
    "num_class_inferred": IssueType(
        "Number of classes unknown",
        "Give --num-class or --cfg, so that the labels are checked against it.",
        note=True,
    ),
}
