from __future__ import annotations

import re

import pytest

from protocol.errors import CODES, MAX_MESSAGE, LocalError, ProtocolError, RemoteError
from protocol.framing import HANDSHAKE_MAX_BYTES


def test_remote_error_carries_code_message_and_retry() -> None:
    error = RemoteError("bad_hello", "expected a, got b", retry=True)
    assert (error.code, error.message, error.retry) == ("bad_hello", "expected a, got b", True)
    assert str(error) == "bad_hello: expected a, got b"
    assert not RemoteError("bad_hello", "").retry


def test_remote_error_unknown_code_raises_local_error() -> None:
    with pytest.raises(LocalError, match="no_such_code"):
        RemoteError("no_such_code", "")


def test_local_and_remote_error_are_distinct_protocol_errors() -> None:
    assert issubclass(LocalError, ProtocolError)
    assert issubclass(RemoteError, ProtocolError)
    assert not issubclass(LocalError, RemoteError)
    assert not issubclass(RemoteError, LocalError)


def test_error_codes_are_snake_case_and_described() -> None:
    for code, meaning in CODES.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert meaning


def test_remote_error_long_message_is_shortened_to_limit() -> None:
    error = RemoteError("bad_hello", "expected a, got " + "\U0001f642" * 1_000_000 + "; do this")
    assert len(error.message) == MAX_MESSAGE
    assert error.message.startswith("expected a, got ")
    assert error.message.endswith("; do this")
    assert len(error.message.encode()) < HANDSHAKE_MAX_BYTES
    exact = "x" * MAX_MESSAGE
    assert RemoteError("bad_hello", exact).message == exact
