"""A network as the bytes of a TorchScript file, for C++ and other programs with libtorch."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from server.commands.exported_network import Exported, ExportError, Trained, quiet

METADATA = "understudy.json"
"""The file in the archive that says what it is of."""


class ScriptFile:
    """A TorchScript file that was exported."""

    def __init__(
        self, data: bytes, trained: Trained, outputs: list[str], *, float_input: bool
    ) -> None:
        self.outputs = outputs
        self._trained = trained
        self._float_input = float_input
        with quiet():
            self._module: Any = torch.jit.load(  # type: ignore[no-untyped-call]
                io.BytesIO(data), map_location="cpu"
            )

    def run(
        self,
        observations: npt.NDArray[Any],
        legal: npt.NDArray[np.bool_] | None = None,
        memory: npt.NDArray[np.float32] | None = None,
    ) -> dict[str, npt.NDArray[np.float32]]:
        """All outputs for rows of observations, [n, frame_stack * observation_size], masks,
        [n, choices], and recurrent states, [n, memory]."""
        taken = self._trained.parts(observations)
        fed = [each.float() if self._float_input else each for each in taken]
        if legal is not None:
            fed.append(torch.from_numpy(legal).float())
        if memory is not None:
            fed.append(torch.from_numpy(memory))
        with torch.inference_mode():
            values = self._module(*fed)
        return {name: value.numpy() for name, value in zip(self.outputs, values, strict=True)}


def torchscript_file(trained: Trained, *, float_input: bool = False) -> tuple[bytes, ScriptFile]:
    """The file's bytes, and the file as it runs. `float_input`: it takes float32 whatever the game
    sends. Errors: ExportError."""
    model = Exported(trained.network, trained.spec).eval()
    file = io.BytesIO()
    about: dict[str, Any] = {**trained.metadata(), "inputs": trained.inputs}
    about |= {"outputs": model.names, "float_input": float_input}
    try:
        with quiet():
            example = trained.example(float_input=float_input)
            traced = torch.jit.trace(model, example)  # type: ignore[no-untyped-call]
            torch.jit.save(traced, file, _extra_files={METADATA: json.dumps(about)})
        data = file.getvalue()
        return data, ScriptFile(data, trained, model.names, float_input=float_input)
    except Exception as error:  # whatever comes out of torch
        raise ExportError(f"the network cannot be written as TorchScript: {error}") from error
