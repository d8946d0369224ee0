"""From BatchNorm to synchronized BatchNorm, and back."""

from torch import nn

from .batchnorm import SynchronizedBatchNorm1d, SynchronizedBatchNorm2d, SynchronizedBatchNorm3d

Table = dict[type[nn.Module], type[nn.Module]]

SYNCHRONIZED: Table = {
    nn.BatchNorm1d: SynchronizedBatchNorm1d,
    nn.BatchNorm2d: SynchronizedBatchNorm2d,
    nn.BatchNorm3d: SynchronizedBatchNorm3d,
}
PLAIN: Table = {synchronized: plain for plain, synchronized in SYNCHRONIZED.items()}


def convert_model(module: nn.Module, synchronized: bool = True) -> nn.Module:
    """The module with every BatchNorm synchronized or, with ``synchronized=False``, plain again.

    Layers inside ``module`` are replaced in place; use what is returned, as ``module`` may be such a layer
    itself. The new layers hold the parameters of the old ones, so an optimizer made before stays right.
    Subclasses of the layers are left alone, as they may compute something else.
    """
    return _convert(module, SYNCHRONIZED if synchronized else PLAIN, {})


def _convert(module: nn.Module, table: Table, done: dict[nn.Module, nn.Module]) -> nn.Module:
    if module not in done:
        done[module] = module
        if type(module) in table:
            # Both kinds hold the same things, so the state moves as a whole, with buffers, mode and hooks.
            kind = table[type(module)]
            done[module] = kind.__new__(kind)
            done[module].__dict__ = module.__dict__.copy()
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = _convert(child, table, done)
    return done[module]
