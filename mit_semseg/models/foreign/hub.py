"""Downloading a model from the Hugging Face Hub, or saying which files to fetch by hand."""

from pathlib import Path

from ...errors import UserError

PREFIX = "hf:"
_HUB = "https://huggingface.co"
# Weights in the order of preference: the first kind that a model has is downloaded.
_WEIGHTS = (("model.safetensors", "model-*.safetensors", "model.safetensors.index.json"), ("pytorch_model*",))


def located(source: str | Path) -> Path:
    """The file or the folder of a foreign model, downloaded if need be.

    Args:
        source: a path, or ``hf:ORG/NAME``.

    Raises: UserError if there is none, or the download fails.
    """
    text = str(source)
    path = download(text) if text.startswith(PREFIX) else Path(source)
    if not path.exists():
        raise UserError(f"{path} does not exist. Name a checkpoint, its folder, or {PREFIX}ORG/NAME.")
    return path


def download(source: str) -> Path:
    """The folder of a model that ``hf:ORG/NAME`` names, in the cache of huggingface_hub.

    Raises: UserError if the package is missing, or with the files to fetch if there is no network.
    """
    name = source.removeprefix(PREFIX)
    organization, _, model = name.partition("/")
    if not organization or not model or "/" in model:
        raise UserError(f"'{source}' is not a model of the hub: one is called {PREFIX}ORG/NAME.")
    by_hand = (
        f"Fetch config.json and {_WEIGHTS[0][0]} (or pytorch_model.bin) from {_HUB}/{name}/tree/main into a "
        "folder, and import that folder."
    )
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise UserError(
            f"{source} needs the package huggingface_hub. Run: pip install huggingface_hub. Or: {by_hand}"
        ) from error
    try:
        for patterns in _WEIGHTS:
            folder = Path(snapshot_download(name, allow_patterns=["config.json", *patterns]))
            if any(file.suffix in (".safetensors", ".bin") for file in folder.iterdir()):
                return folder
    except Exception as error:  # of the network, of the hub, of the disk: each has its own
        reason = " ".join(str(error).split()).partition(". ")[0].removesuffix(".") or type(error).__name__
        raise UserError(f"{source} could not be downloaded: {reason[:200]}. {by_hand}") from error
    raise UserError(f"{source} holds no weights in a form that can be imported.")
