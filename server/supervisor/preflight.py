"""Checks before a server starts: devices, expert plugin, who can reach it, certificate."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from agent.device_name import device_name
from config.load import ConfigError, unsaved
from config.models import Config
from server.gateway import expert_plugin
from server.net.tls import certificate
from server.run.directory import RunDirectory
from server.supervisor import exposure

log = logging.getLogger("supervisor")


def check(config: Config, folder: RunDirectory) -> str:
    """Whether a server can start with this configuration, with its secrets, in this folder; what is
    unwise is logged. Returns the device that trains. Errors: ConfigError."""
    _device(config.server.device, "server.device")
    trains = _device(config.trainer.device, "trainer.device")
    _device(config.replay.device, "replay.device")
    expert_plugin.check(config)
    _websockets(config)
    for reminder in exposure.check(config, folder.told):
        log.warning("%s", reminder)
    folder.told = unsaved(config)
    certificate(config.server)  # the gateways load it again: here it is only looked at
    return trains


def _websockets(config: Config) -> None:
    """Whether the library for WebSockets is there, if it is wanted. Errors: ConfigError."""
    if config.server.websocket_port is not None and find_spec("websockets") is None:
        raise ConfigError(
            "server.websocket_port needs the package websockets, which is not installed; run "
            "scripts/install, or remove the setting"
        )


def _device(name: str, setting: str) -> str:
    """The device of this name. Errors: ConfigError."""
    try:
        return device_name(name, setting)
    except RuntimeError as error:
        raise ConfigError(str(error)) from None
