"""The kinds of problems and notes, in the order in which they are reported, and how each is mended."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing to report; ``{first}``, ``{last}`` in the fix are the values of the classes."""

    title: str
    fix: str
    note: bool = False
    """Worth knowing, but nothing has to be done, and the exit code stays 0."""


KINDS = {
    "unusable_line": Kind(
        "Unusable lines of the list",
        "Correct these lines, or write the list anew with `mit-semseg data prepare`; training refuses the "
        "whole list.",
    ),
    "missing": Kind(
        "Missing files",
        "Check the root folder (--root, DATASET.root_dataset) and the spelling, upper and lower case "
        "included; fetch what is missing or drop its lines.",
    ),
    "unreadable": Kind(
        "Unreadable files", "Give yourself the right to read these files, or drop their lines."
    ),
    "empty": Kind("Empty files", "Fetch these files again or drop their lines."),
    "not_an_image": Kind(
        "Files that are no images",
        "Fetch these files again (a Git LFS pointer with `git lfs pull`) or drop their lines.",
    ),
    "truncated": Kind("Truncated files", "Fetch these files again or drop their lines."),
    "damaged": Kind("Damaged files", "Fetch these files again or drop their lines."),
    "zero_size": Kind("Images without a pixel", "Fetch these files again or drop their lines."),
    "bomb": Kind(
        "Decompression bombs",
        "Drop these lines, or scale the images down if they really are that large.",
    ),
    "crash": Kind(
        "Files that kill the decoder",
        "Drop these lines, or save the images anew with another program; a large one may just need more "
        "memory than there is.",
    ),
    "hang": Kind(
        "Files that the decoder does not finish",
        "Check the disk that they are on, then drop these lines or save the images anew.",
    ),
    "image_mode": Kind("Images of values of unknown range", "Save these images with 8 or 16 bits a channel."),
    "label_rgb": Kind(
        "Labels of colours",
        "Turn the colours into class numbers with `mit-semseg data prepare rgb ... --colors FILE`, a table "
        "of the colours.",
    ),
    "label_gray_in_rgb": Kind(
        "Labels of one channel, saved as three",
        "Save one of the three equal channels as an 8-bit gray PNG.",
    ),
    "label_float": Kind(
        "Labels of floating-point values", "Save these labels with 8 or 16 bits, whole numbers."
    ),
    "label_mode": Kind(
        "Labels of a wrong mode",
        "Save these labels as 8- or 16-bit gray PNGs whose values are class numbers.",
    ),
    "label_lossy": Kind(
        "Labels with lossy compression",
        "Make these labels anew from their source, as PNG: JPEG has mixed the values at the borders of the "
        "classes, which cannot be undone.",
    ),
    "size_mismatch": Kind(
        "Labels of another size than their image",
        "Find the label of that image, or scale the label with nearest neighbour, so that each pixel of the "
        "image has its value.",
    ),
    "exif_rotated": Kind(
        "EXIF-rotated images whose labels fit the upright view",
        "Turn the pixels of these images for good (`exiftran -ai`, or Pillow's ImageOps.exif_transpose): "
        "training and scoring take them as they are stored.",
    ),
    "listed_size": Kind(
        "Width or height in the list is not the file's",
        "Write the list anew with `mit-semseg data prepare`; training puts images of one "
        "orientation together by what the list says.",
    ),
    "beyond": Kind(
        "Labels with values beyond the classes",
        "Classes have the values {first} to {last}: set DATASET.num_class (--num-class) if there are more of "
        "them, or map the other values with `mit-semseg data prepare folders ... --map V:K`.",
    ),
    "binary_mask": Kind(
        "Binary masks: the labels hold 0 and 255 only",
        "If 255 is the foreground, turn 0 into 1 and 255 into 2 (`mit-semseg data prepare folders ... --map "
        "0:1,255:2`) and set DATASET.num_class 2; if 255 means ignore, set DATASET.ignore_label 255 and, "
        "because 0 is then a class, DATASET.label_offset 0.",
    ),
    "leak": Kind(
        "Images in two lists",
        "Take them out of one of the lists: scores on images that were trained on say nothing.",
    ),
    "same_list": Kind(
        "One list for training and validation",
        "Set DATASET.list_val to images that are not trained on: scores on these say nothing.",
    ),
    "duplicate_record": Kind(
        "Images listed twice", "Drop the later lines, unless they are there to give an image more weight."
    ),
    "duplicate_content": Kind(
        "Different files with the same image",
        "Drop the later lines; where the labels differ, keep the right one.",
    ),
    "shared_label": Kind("One label for several images", "Give each image the label that was drawn on it."),
    "no_size": Kind(
        "Lines without width and height",
        "Training needs them, scoring does not; `mit-semseg data prepare` writes them.",
        note=True,
    ),
    "exif_stored": Kind(
        "EXIF-rotated images whose labels fit the stored pixels",
        "Nothing: training and scoring take both as they are stored.",
        note=True,
    ),
    "exif_undecided": Kind(
        "EXIF-turned images whose size does not show whether the label is turned too",
        "Open one beside its label: training takes the pixels as they are stored; if the label fits the "
        "turned image, turn the image for good (`exiftran -ai`).",
        note=True,
    ),
    "palette": Kind(
        "Labels with a palette",
        "Nothing: the index of a pixel is its value, the colours are not read.",
        note=True,
    ),
    "label_16bit": Kind("Labels of 16 bits", "Nothing: they are read as they are.", note=True),
    "no_labelled_pixel": Kind(
        "Labels without a labelled pixel", "Drop these lines, they teach nothing and cost time.", note=True
    ),
    "same_label_content": Kind(
        "Different images with equal labels",
        "Look at some of them: frames of a video may be equal, a mix-up of file names looks the same.",
        note=True,
    ),
    "mostly_unlabelled": Kind(
        "Most pixels are unlabelled",
        "If {below} is a class of its own (background), set DATASET.label_offset {below}; else nothing.",
        note=True,
    ),
    "class_missing": Kind(
        "Classes that never occur",
        "Check DATASET.num_class and the label map; a rare class may need more images.",
        note=True,
    ),
    "class_untrained": Kind(
        "Classes in validation that are not in training",
        "Split the images anew, so that each class is in both lists.",
        note=True,
    ),
    "num_class_inferred": Kind(
        "Number of classes unknown",
        "Give --num-class or --cfg to have the labels checked against it.",
        note=True,
    ),
}
