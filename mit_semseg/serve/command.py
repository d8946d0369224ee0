"""The arguments of `mit-semseg serve`. Nothing here imports a package, so `--help` is answered at once."""

import argparse

from ..errors import UserError
from ..runtime.arguments import number, whole

DEFAULT_MODEL = "camvid-efficientnet_lite0-upernet"
TOKEN_VARIABLE = "MIT_SEMSEG_TOKEN"

EPILOG = """\
examples:
  mit-semseg serve                                   (the model that comes with the project)
  mit-semseg serve ckpt/mine ckpt/other              (the page compares them)
  mit-semseg serve --cfg mine/config.yaml DATASET.imgSizes 450

exit code: 0 after SIGTERM or Ctrl-C, when all accepted requests are answered; 1 if some are not answered in
time; 2 for a mistake in the command, a model that cannot be used, or a port in use.

"""
_PACKAGES = ("fastapi", "starlette", "uvicorn", "python_multipart", "prometheus_client", "pydantic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="MODEL",
        help="the folder of a run, a config file, or the name of a shipped config "
        f"(default: {DEFAULT_MODEL}); after --cfg, config keys to change: KEY VALUE",
    )
    parser.add_argument(
        "--cfg", action="append", metavar="FILE", help="serve the model of this config, or of several merged"
    )
    parser.add_argument(
        "--port",
        type=whole(0, 65535, "a port"),
        default=8000,
        metavar="N",
        help="0 for any (default: %(default)s)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--token", default="", help=f"require this bearer token (default: ${TOKEN_VARIABLE}, or none)"
    )
    parser.add_argument(
        "--gpu", dest="gpus", metavar="DEVICE", help="0-3, gpu1 or cpu (default: the first GPU, or the CPU)"
    )
    parser.add_argument(
        "--workers",
        type=whole(1),
        metavar="N",
        help="processes that compute: one on each of N GPUs, or N on the CPU, which share its cores",
    )
    parser.add_argument(
        "--max-bytes",
        type=whole(1),
        default=20_000_000,
        metavar="N",
        help="of an upload (default: %(default)s)",
    )
    parser.add_argument(
        "--max-pixels",
        type=whole(1),
        default=25_000_000,
        metavar="N",
        help="of an image (default: %(default)s)",
    )
    parser.add_argument(
        "--max-queue",
        type=whole(1),
        default=64,
        metavar="N",
        help="images that wait; further ones are answered with 429 (default: %(default)s)",
    )
    parser.add_argument(
        "--max-batch",
        type=whole(1),
        default=0,
        metavar="N",
        help="images of the same size that are segmented together (default: 8 on a GPU, 1 on a CPU)",
    )
    parser.add_argument(
        "--body-timeout",
        type=number(0.1, what="a number of seconds"),
        default=30.0,
        metavar="S",
        help="seconds for an upload to arrive (default: %(default)g)",
    )
    parser.add_argument(
        "--timeout",
        type=number(0.1, what="a number of seconds"),
        default=60.0,
        metavar="S",
        help="seconds from the upload to the answer (default: %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal arrives. Raises: UserError for a mistake, a model or a port that can't be used."""
    try:
        from .server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise UserError(f"The package {error.name} is missing. Run: pip install '.[serve]'") from error
    return serve(args)
