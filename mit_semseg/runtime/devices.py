"""The devices that the option ``--gpus`` names."""

import re

import torch

from ..errors import UserError


def parse_devices(input_devices: str) -> list[str]:
    """The devices that a text names, without duplicates: ``"0-1,gpu4"`` gives gpu0, gpu1, gpu4.

    Raises: UserError if it is neither a list of GPUs nor ``"cpu"``.
    """
    devices: list[str] = []
    for part in input_devices.lower().replace(" ", "").split(","):
        if part == "cpu":
            devices.append("cpu")
            continue
        match = re.fullmatch(r"(?:gpu)?(\d{1,4})(?:-(?:gpu)?(\d{1,4}))?", part)
        if match is None:
            raise UserError(
                f"'{input_devices}' names no devices. Write GPU numbers such as 0-3, 0,2 or gpu1, or cpu."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        devices += [f"gpu{i}" for i in range(min(first, last), max(first, last) + 1)]
    devices = list(dict.fromkeys(devices))
    if "cpu" in devices and len(devices) > 1:
        raise UserError(f"'{input_devices}' mixes the CPU with GPUs. Use one or the other.")
    return devices


def find_devices(text: str | None, processes: int | None = None) -> list[torch.device]:
    """The devices that ``--gpus`` names; by default all GPUs, or the CPU if there are none.

    Args:
        processes: how many times the list names the CPU; it names each GPU once.

    Raises: UserError for a GPU that the machine does not have, and for ``processes`` with GPUs.
    """
    present = torch.cuda.device_count()
    names = parse_devices(text) if text is not None else [f"gpu{i}" for i in range(present)] or ["cpu"]
    if names == ["cpu"]:
        return [torch.device("cpu")] * (processes or 1)
    if processes is not None:
        raise UserError("--procs is for the CPU: add --gpus cpu. On GPUs there is one process on each.")
    missing = [name for name in names if int(name[3:]) >= present]
    if missing:
        there = ("has no GPU", "has only gpu0", f"has only gpu0 to gpu{present - 1}")[min(present, 2)]
        raise UserError(
            f"'{text}' names {', '.join(missing)}, but this machine {there}. "
            "Omit the option to use all devices of the machine, or pass cpu."
        )
    return [torch.device("cuda", int(name[3:])) for name in names]
