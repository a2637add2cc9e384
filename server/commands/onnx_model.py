"""A network as the bytes of an ONNX file."""

from __future__ import annotations

import io

import torch

from server.commands.exported_network import Exported, ExportError, Trained, quiet
from server.play.policy_file import PolicyError, PolicyFile, sealed

OPSETS = range(15, 21)
"""Versions of ONNX's operators that can be written. The oldest is the default: every engine of
docs/export.md reads it, and no network here needs what came later."""


def onnx_file(
    trained: Trained, opset: int = OPSETS[0], *, float_input: bool = False
) -> tuple[bytes, PolicyFile]:
    """The file's bytes, and the file as it runs. `float_input`: it takes float32 whatever the game
    sends. Errors: ExportError."""
    import onnx

    model = Exported(trained.network, trained.spec).eval()
    file = io.BytesIO()
    try:
        # The exporter by tracing: in a thirtieth of the time of the one by graph capture, which
        # writes no opset below 18. Nothing here depends on values, and batches are checked.
        with quiet():
            torch.onnx.export(
                model,
                trained.example(float_input=float_input),
                file,  # type: ignore[arg-type]  # a path, or, without dynamo, a file
                dynamo=False,
                input_names=trained.inputs,
                output_names=model.names,
                dynamic_axes={name: {0: "batch"} for name in (*trained.inputs, *model.names)},
                opset_version=opset,
            )
    except Exception as error:  # the exporter's own, and what comes out of torch
        raise ExportError(f"the network cannot be written as ONNX: {error}") from error
    proto = onnx.load_from_string(file.getvalue())
    proto.doc_string = f"A policy for {trained.spec.describe()}, trained by understudy."
    onnx.helper.set_model_props(proto, trained.metadata())
    onnx.checker.check_model(proto, full_check=True)
    data = sealed(proto.SerializeToString())
    try:
        return data, PolicyFile(data, "the exported file")
    except PolicyError as error:
        raise ExportError(str(error)) from error
