"""Addresses that stand for as many machines, for those who attack from one.

All of loopback counts as one address. In a network namespace of its own, which `scripts/fuzz` makes
where the system allows it, all of 10.0.0.0/8 can be this machine.
"""

from __future__ import annotations

import fcntl
import socket
import struct

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
_IFF_UP = 1


def many() -> bool:
    """Whether connections may come from addresses of 10.0.0.0/8; they are set up where the loopback
    interface is down, as it is in a new namespace and nowhere else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            flags = _flags(sock)
            if not flags & _IFF_UP:
                _call(sock, _SIOCSIFFLAGS, "lo", struct.pack("H", flags | _IFF_UP))
                _call(sock, _SIOCSIFADDR, "lo:1", _address("10.0.0.1"))
                _call(sock, _SIOCSIFNETMASK, "lo:1", _address("255.0.0.0"))
                _call(sock, _SIOCSIFADDR, "lo", _address("127.0.0.1"))
                _call(sock, _SIOCSIFNETMASK, "lo", _address("255.0.0.0"))
            sock.bind(("10.1.2.3", 0))
        except OSError:
            return False
    return True


def _flags(sock: socket.socket) -> int:
    answer = _call(sock, _SIOCGIFFLAGS, "lo", bytes(2))
    return int(struct.unpack_from("H", answer, 16)[0])


def _call(sock: socket.socket, request: int, interface: str, value: bytes) -> bytes:
    return fcntl.ioctl(sock, request, struct.pack("16s24s", interface.encode(), value))


def _address(text: str) -> bytes:
    return struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(text))
