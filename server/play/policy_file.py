"""Exported policies: ONNX files that say what to do, without the server and without torch.

A file's input is `observation` [batch, *shape], with stacked frames [batch, k, *shape], in the
game's own units: scaling is part of it. A game with several observations has an input for each,
with its name, and one with masks has `legal` [batch, choices], float32: 1 where a choice is legal,
0 where not. Its outputs are `action` [batch, action_width] (action
rows), and, where the game has them, `q` [batch, choices] and `continuous` [batch, columns]. Its
metadata says which game it is of.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from protocol.errors import RemoteError
from protocol.observations import in_one_piece
from protocol.spaces import GameSpec
from server.play.extras import how_to_install

FORMAT = "understudy policy"
VERSION = "1"

FILE_BYTES = 2**31
"""The longest ONNX file: it is one message of protobuf."""

LEGAL = "legal"
"""The input for masks."""

MEMORY, NEXT_MEMORY = "memory", "next_memory"
"""The input for the recurrent states before the observations, and the output for those behind them:
of a network with a memory."""

_SEAL = b"\x72\x4a\x0a\x06digest\x12\x40"
"""How one more entry of an ONNX file's metadata begins, as protobuf: `digest`, 64 letters."""


class PolicyError(Exception):
    """A policy that cannot be used; the message says why and what to do."""


class PolicyFile:
    """A policy that was exported. Errors of `load`: PolicyError."""

    def __init__(self, data: bytes, name: str) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise PolicyError(
                f"{name}: a policy is run with the package onnxruntime, which cannot be imported "
                f"({error}); {how_to_install('export')}"
            ) from error
        _check_seal(data, name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what is wrong is raised; once is enough
        # Small networks, one observation at a time: more threads only wait for each other.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
            meta = dict(self._session.get_modelmeta().custom_metadata_map)
        except Exception as error:  # the runtime's errors have no class in common
            raise PolicyError(
                f"{name}: expected a policy (.onnx), got a file that cannot be read ({error})"
            ) from error
        if meta.get("format") != FORMAT:
            raise PolicyError(
                f"{name}: expected a file whose format is {FORMAT!r}, got another kind of ONNX "
                "file; name one that `understudy export` wrote"
            )
        if meta.get("version") != VERSION:
            raise PolicyError(
                f"{name}: expected format version {VERSION}, got {meta.get('version')}; export it "
                "again with this version of understudy"
            )
        try:
            self.spec = msgspec.json.decode(meta["game"], type=GameSpec).checked()
            self.frame_stack = int(meta["frame_stack"])
            """Frames in an observation, the newest last."""
            self.memory = int(meta.get("memory", 0))
            """Numbers of the network's recurrent state; 0 without a memory."""
            self.updates = int(meta["updates"])
        except (msgspec.DecodeError, RemoteError, ValueError, KeyError) as error:
            raise PolicyError(
                f"{name}: its metadata is damaged: {error}; export it again"
            ) from error
        self.outputs = [output.name for output in self._session.get_outputs()]
        inputs = self._session.get_inputs()
        # Exported with --float-input: whatever the game sends.
        self._float_input = all(each.type == "tensor(float)" for each in inputs)
        inputs = [each for each in inputs if not (self.spec.masks and each.name == LEGAL)]
        # An input has a side more where frames are stacked.
        self._inputs = [
            (each.name, len(each.shape) > 1 + len(observation.shape))
            for each, observation in zip(inputs, self.spec.observations, strict=False)
        ]

    @staticmethod
    def load(path: Path) -> PolicyFile:
        """The policy in a file. Errors: PolicyError."""
        try:
            if (size := path.stat().st_size) > FILE_BYTES:
                raise PolicyError(
                    f"{path}: expected a policy (.onnx) of at most {FILE_BYTES:,} bytes, got "
                    f"{size:,}; name a file that `understudy export` wrote"
                )
            return PolicyFile(path.read_bytes(), str(path))
        except OSError as error:
            raise PolicyError(f"{path}: cannot read it: {error.strerror}") from error

    def run(
        self,
        observations: npt.NDArray[Any],
        legal: npt.NDArray[np.bool_] | None = None,
        memory: npt.NDArray[np.float32] | None = None,
    ) -> dict[str, npt.NDArray[np.float32]]:
        """All outputs for rows of observations, [n, frame_stack * observation_size], and masks,
        [n, choices], of a game with masks; None says that all is legal. `memory` [n, memory]: the
        recurrent states before them; None: zeros, with which episodes begin."""
        values = self._session.run(self.outputs, self._fed(observations, legal, memory))
        return dict(zip(self.outputs, values, strict=True))

    def act(
        self,
        observations: npt.NDArray[Any],
        legal: npt.NDArray[np.bool_] | None = None,
        memory: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Action rows, float32 [n, action_width], for what `run` takes. `memory` becomes the states
        behind the observations."""
        outputs = ["action"] if memory is None else ["action", NEXT_MEMORY]
        rows: npt.NDArray[np.float32]
        rows, *states = self._session.run(outputs, self._fed(observations, legal, memory))
        if memory is not None:
            memory[:] = states[0]
        return rows

    def _fed(
        self,
        observations: npt.NDArray[Any],
        legal: npt.NDArray[np.bool_] | None,
        memory: npt.NDArray[np.float32] | None,
    ) -> dict[str, npt.NDArray[Any]]:
        parts = self.spec.parts(observations.reshape(len(observations), -1))
        fed: dict[str, npt.NDArray[Any]] = {}
        if self.spec.masks:
            fed[LEGAL] = np.ones((len(observations), self.spec.choices), np.float32)
            if legal is not None:
                fed[LEGAL][:] = legal
        if self.memory:
            before = np.zeros((len(observations), self.memory), np.float32)
            fed[MEMORY] = before if memory is None else memory
        for (name, stacked), part in zip(self._inputs, parts, strict=True):
            found = in_one_piece(part if stacked else part[:, -1])
            fed[name] = found.astype(np.float32) if self._float_input else found
        return fed


def sealed(data: bytes) -> bytes:
    """A serialized ONNX model with its digest as the last entry of its metadata: bytes of an entry
    may stand behind a message, and belong to it."""
    return data + _SEAL + hashlib.sha256(data).hexdigest().encode()


def _check_seal(data: bytes, name: str) -> None:
    """Refuse a file that is not as it was sealed. Without a seal it passes: whoever writes it anew
    with another tool leaves that entry out."""
    end = len(data) - 64
    start = end - len(_SEAL)
    if start >= 0 and data[start:end] == _SEAL:
        found = hashlib.sha256(memoryview(data)[:start]).hexdigest().encode()
        if found != data[end:]:
            raise PolicyError(
                f"{name}: the file is not as it was exported; copy or export it again"
            )
