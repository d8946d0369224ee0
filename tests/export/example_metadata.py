"""Metadata of a model that was not trained."""

from dataclasses import replace

from mit_semseg.export import Metadata


def example_metadata(num_class=5, **fields):
    """Metadata of ``num_class`` classes, with some ``fields`` of others."""
    base = Metadata(
        names=tuple(f"class {k}" for k in range(num_class)),
        colors=((1, 2, 3),) * num_class,
        imgSizes=(40,),
        imgMaxSize=80,
        padding_constant=8,
        stride=4,
        grid=8,
        outputs=(),
        model="a + b",
        config="{}",
        weights=("x", "y"),
        version="1",
    )
    return replace(base, **fields)
