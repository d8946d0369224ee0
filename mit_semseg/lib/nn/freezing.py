"""Parts of a network that training leaves as they are."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .batchnorm import SynchronizedBatchNorm


def freeze(module: nn.Module) -> None:
    """No gradients for any parameter of ``module``, and its BatchNorms as `freeze_batch_norm` leaves them."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    freeze_batch_norm(module)


def freeze_batch_norm(module: nn.Module) -> None:
    """Stop BatchNorm from following the data: its statistics and parameters stay as they are, for good.

    The layers stay in evaluation mode whatever ``train()`` is called, on them or on a module around them.

    Raises: TypeError for a BatchNorm that knows nothing of it; `convert_model` makes one that does.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, SynchronizedBatchNorm):
            layer.frozen = True
            layer.eval()
            for parameter in layer.parameters():
                parameter.requires_grad_(False)
        elif isinstance(layer, _BatchNorm):
            raise TypeError(
                f"Layer '{name}' is a {type(layer).__name__}, which train() would thaw. "
                "Convert the module with convert_model before."
            )
