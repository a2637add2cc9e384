"""Checks before a server starts: open files, devices, expert plugin, exposure, certificate."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from agent.device_name import device_name
from config.load import ConfigError, unsaved
from config.models import Config
from server.gateway import expert_plugin
from server.net.open_files import allow_open_files
from server.net.tls import certificate
from server.run.directory import RunDirectory
from server.supervisor import exposure, lessons

log = logging.getLogger("supervisor")


def check(config: Config, folder: RunDirectory) -> str:
    """Whether a server can start with this configuration, with its secrets, in this folder; what is
    unwise is logged. Returns the device that trains. Errors: ConfigError."""
    _gateways(config.server.gateways)
    _device(config.server.device, "server.device")
    trains = _device(config.trainer.device, "trainer.device")
    _device(config.replay.device, "replay.device")
    expert_plugin.check(config)
    lessons.check(config)
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


OWN_FILES, FILES_PER_CHILD = 56, 12
"""Open files of the supervisor, and for each process that it starts: half of them are in use, and
the others are there when one is started again."""


def own_files(gateways: int) -> int:
    """Open files that the supervisor needs, however many connections there are."""
    return OWN_FILES + FILES_PER_CHILD * (gateways + 1)


def _gateways(gateways: int) -> None:
    """Errors: ConfigError for more than this process may have open files for."""
    files = allow_open_files(own_files(gateways))
    most = max(1, (files - own_files(0)) // FILES_PER_CHILD)
    if gateways > most:
        raise ConfigError(
            f"server.gateways: expected at most {most}, since the server may have {files} files "
            f"open, got {gateways}; set no more than there are cores, or raise ulimit -n "
            "(LimitNOFILE of a service)"
        )


def _device(name: str, setting: str) -> str:
    """The device of this name. Errors: ConfigError."""
    try:
        return device_name(name, setting)
    except RuntimeError as error:
        raise ConfigError(str(error)) from None
