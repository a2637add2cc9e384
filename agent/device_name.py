"""Which device a name of the configuration means on this machine, as text."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def device_name(name: str, field: str) -> str:
    """The device, such as `cpu` or `cuda:1`: `auto` is cuda where there is one, else cpu.

    Errors: RuntimeError that names the configuration's `field` where there is no such device.
    """
    # A torch built for the cpu alone has no cuda devices, and does not have to be imported to say
    # so: that takes seconds.
    if name == "cpu" or (name == "auto" and _built_for_cpu()):
        return "cpu"
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RuntimeError(
            f"{field} is {name!r}, and this machine has {torch.cuda.device_count()} CUDA devices; "
            "set it to cpu or auto, or install a torch built for CUDA"
        )
    return str(device)


def _built_for_cpu() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False
