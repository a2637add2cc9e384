"""agent/device_name.py: what a device of the configuration is."""

from __future__ import annotations

import pytest
import torch

from agent import device_name as module
from agent.device import resolve_device
from agent.device_name import device_name


def test_device_cpu_resolves_to_cpu() -> None:
    assert device_name("cpu", "server.device") == "cpu"
    assert resolve_device("cpu", "server.device") == torch.device("cpu")


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("build", ["2.9.0", "2.9.0+cu130"])
def test_device_auto_resolves_to_cuda_only_if_available(
    there: bool, build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "version", lambda _: build)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(there))
    assert device_name("auto", "server.device") == ("cuda" if there else "cpu")


def test_missing_cuda_device_error_names_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device_name("cuda:0", "trainer.device") == "cuda:0"
    with pytest.raises(RuntimeError, match=r"trainer\.device is 'cuda:1', and this machine has 1"):
        device_name("cuda:1", "trainer.device")
