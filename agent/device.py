"""Which device a name of the configuration means on this machine."""

from __future__ import annotations

import torch


def resolve_device(name: str, field: str) -> torch.device:
    """`auto` is cuda where there is one, else cpu. RuntimeError that names the configuration's
    `field` if the device is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RuntimeError(
            f"{field} is {name!r}, and this machine has {torch.cuda.device_count()} CUDA devices; "
            "set it to cpu or auto, or install a torch built for CUDA"
        )
    return device
