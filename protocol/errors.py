"""What can go wrong on the wire.

    ProtocolError        something broke the protocol
    ├── RemoteError      the other side did: carries the code and message to send it
    └── LocalError       we did: a bug on this side, never shown to the other as its fault

`CODES` is the whole list of codes that a RemoteError may carry; `protocol/SPEC.md` documents each.
"""

from __future__ import annotations

MAX_MESSAGE = 8000
"""Characters of an error message: room for two specs of the usual size. They quote what came,
which may be a megabyte; before WELCOME nothing is longer than 64 KiB, in either direction."""


class ProtocolError(Exception):
    """Something broke the protocol."""


class LocalError(ProtocolError):
    """This side tried to do what the protocol does not allow: a bug here."""


class RemoteError(ProtocolError):
    """The other side broke the protocol, or asked for what this server refuses.

    `code` is a stable snake_case string from `CODES`; the message says what was expected, what
    came, and what to do; `retry` is true where the same connection attempt may succeed later.
    """

    def __init__(self, code: str, message: str, *, retry: bool = False) -> None:
        if code not in CODES:
            raise LocalError(f"{code!r} is not an error code; add it to protocol.errors.CODES")
        if len(message) > MAX_MESSAGE:  # the cure stands at the end: cut the middle
            message = f"{message[: MAX_MESSAGE - 1003]} … {message[-1000:]}"
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry = retry

    def in_slot(self, slot: int, slots: int) -> RemoteError:
        """The same error of this slot, which the message names where a connection has several."""
        if slots == 1 or self.message.startswith("slot "):
            return self
        return RemoteError(self.code, f"slot {slot}: {self.message}", retry=self.retry)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


CODES: dict[str, str] = {
    "not_understudy": "the first bytes are those of another protocol (HTTP, TLS)",
    "bad_origin": "a WebSocket of a page whose origin is not allowed",
    "tls_failed": "no TLS handshake, on a port that speaks TLS alone",
    "message_too_long": "a length beyond the limit (64 KiB before WELCOME)",
    "message_empty": "a length of zero",
    "message_malformed": "bytes that are not one msgpack value of the announced type",
    "message_truncated": "the connection ended in the middle of a message",
    "unknown_type": "a message type that clients do not send",
    "hello_first": "anything before HELLO",
    "hello_twice": "a second HELLO",
    "protocol_version": "a protocol version that this server does not speak",
    "bad_token": "the token is missing or wrong",
    "too_many_attempts": "too many wrong tokens, or games that could not be begun, lately",
    "bad_hello": "a HELLO whose fields make no valid game, or none that can be begun here",
    "spec_mismatch": "a game that differs from the one this run trains on, or is for",
    "no_such_policy": "a checkpoint to play that this run does not have, or that cannot be loaded",
    "welcome_first": "a frame before WELCOME was received",
    "unknown_slot": "a frame for a slot that HELLO did not declare",
    "seq_out_of_order": "a seq that does not rise by exactly one",
    "frame_before_answer": "a second frame of a slot before the first was answered",
    "mixed_frames": "FRAME and FRAMES on one connection",
    "observation_size": "an observation of another size or dtype than declared",
    "observation_not_finite": "NaN, infinity, or a magnitude beyond 1e9 in an observation",
    "observation_out_of_range": "a choice that was not declared, or a bool other than 0 and 1",
    "reward_shape": "not one reward for each declared component",
    "reward_not_finite": "NaN, infinity, or a magnitude beyond 1e9 in a reward",
    "unknown_status": "a status other than 0, 1, 2",
    "action_shape": "an action that has not one element for each head",
    "action_out_of_range": "an action outside its head",
    "mask_size": "a mask of legal choices of another size than the heads declared need",
    "no_legal_choice": "a mask in which a head has no legal choice, in a running frame",
    "action_illegal": "a choice in `expert` or `took` that the mask of its frame forbids",
    "metrics_shape": "not one number for each name of `metrics` in HELLO",
    "metric_not_finite": "a number of the game that is infinite or NaN",
    "took_on_first_frame": "`took` on the first frame of an episode",
    "unknown_actor": "an actor other than 1 (dqn) and 2 (expert)",
    "expert_missing": "an episode without any recommendation in the role eval_expert",
    "episode_limit": "an episode of evaluation that took more frames or time than allowed",
    "handshake_timeout": "no HELLO in time",
    "idle_timeout": "no message for too long",
    "slow_reader": "replies left unread for too long",
    "too_fast": "more PINGs than anybody needs",
    "too_many_clients": "the server has as many clients as it allows, or as it allows an address",
    "server_stopping": "the server is shutting down",
}
"""Every error code and when it is sent. Codes are part of the protocol: never renamed or reused."""
