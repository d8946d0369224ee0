"""Activations that need not write in place."""

from torch import nn

_SAVE_THEIR_INPUT = nn.Hardtanh, nn.SiLU, nn.Hardswish, nn.Mish, nn.Threshold  # ReLU6 is a Hardtanh


def avoid_copies(module: nn.Module) -> None:
    """Have activations of ``module`` write a new tensor where in place they would copy their input first.

    Autograd needs the input of these activations. Before one overwrites it, torch copies it, so that in
    training they save no memory and take longer. ReLU needs its output only, and stays in place.
    """
    for layer in module.modules():
        if isinstance(layer, _SAVE_THEIR_INPUT):
            layer.inplace = False
