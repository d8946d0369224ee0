"""The server that tests of requests and of the page share."""

import pytest
from serving import MAX_BYTES, MAX_PIXELS, serving

from mit_semseg import Segmenter


@pytest.fixture(scope="session")
def server(trained, tmp_path_factory):
    """A server of one model under two names, for tests that leave it as it is."""
    other = tmp_path_factory.mktemp("models") / "other"
    other.symlink_to(trained)
    limits = ("--max-bytes", MAX_BYTES, "--max-pixels", MAX_PIXELS, "--body-timeout", "1", "--max-batch", "8")
    with serving(*limits, trained, other) as running:
        yield running


@pytest.fixture(scope="session")
def segmenter(trained):
    """The model of that server."""
    return Segmenter.load(trained, device="cpu")
