"""Changes to all BatchNorms of a network: synchronize them, or freeze them."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .batchnorm import (
    SynchronizedBatchNorm,
    SynchronizedBatchNorm1d,
    SynchronizedBatchNorm2d,
    SynchronizedBatchNorm3d,
)

Table = dict[type[nn.Module], type[nn.Module]]

SYNCHRONIZED: Table = {
    nn.BatchNorm1d: SynchronizedBatchNorm1d,
    nn.BatchNorm2d: SynchronizedBatchNorm2d,
    nn.BatchNorm3d: SynchronizedBatchNorm3d,
}
PLAIN: Table = {synchronized: plain for plain, synchronized in SYNCHRONIZED.items()}


def convert_model(module: nn.Module, synchronized: bool = True) -> nn.Module:
    """The module with every BatchNorm synchronized, or plain again with ``synchronized=False``.

    Layers inside ``module`` are replaced in place. Use the returned module, because ``module`` may be such a
    layer itself. The new layers hold the parameters of the old ones, so an existing optimizer remains valid.
    Subclasses of the layers are not replaced, because they may compute something else.
    """
    return _convert(module, SYNCHRONIZED if synchronized else PLAIN, {})


def _convert(module: nn.Module, table: Table, done: dict[nn.Module, nn.Module]) -> nn.Module:
    if module not in done:
        done[module] = module
        if type(module) in table:
            # Both classes have the same attributes, so the whole state moves: buffers, mode and hooks too.
            kind = table[type(module)]
            done[module] = kind.__new__(kind)
            done[module].__dict__ = module.__dict__.copy()
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = _convert(child, table, done)
    return done[module]


def freeze(module: nn.Module) -> None:
    """Disable the gradients of all parameters of ``module``, and apply `freeze_batch_norm` to it."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    freeze_batch_norm(module)


def freeze_batch_norm(module: nn.Module) -> None:
    """Freeze the statistics and parameters of every BatchNorm in ``module``.

    The layers stay in evaluation mode, even if ``train()`` is called on them or on a module around them.

    Raises: TypeError for a BatchNorm without this ability; `convert_model` makes one that has it.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, SynchronizedBatchNorm):
            layer.frozen = True
            layer.eval()
            for parameter in layer.parameters():
                parameter.requires_grad_(False)
        elif isinstance(layer, _BatchNorm):
            raise TypeError(
                f"Layer '{name}' is a {type(layer).__name__}, which train() would unfreeze. "
                "Convert the module with convert_model first."
            )
