"""The torch device that a name of the configuration means on this machine."""

from __future__ import annotations

import torch

from agent.device_name import device_name


def resolve_device(name: str, field: str) -> torch.device:
    """`auto` is cuda where there is one, else cpu. Errors: RuntimeError that names the
    configuration's `field` where there is no such device."""
    return torch.device(device_name(name, field))
