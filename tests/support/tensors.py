"""Tensors in tests, without what torch has for them: that imports its compiler and sympy, which
take a second and more of each process that runs tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

TOLERANCES = {
    torch.float64: (1e-7, 1e-7),
    torch.float32: (1.3e-6, 1e-5),
    torch.float16: (1e-3, 1e-5),
    torch.bfloat16: (1.6e-2, 1e-5),
}
"""Relative and absolute, of `torch.testing.assert_close`; of whole numbers none."""


def assert_close(
    found: Tensor | Sequence[Tensor] | None,
    wanted: Tensor | Sequence[Tensor] | None,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    msg: str = "",
) -> None:
    """Two tensors, or as many, of one shape, dtype and device with nearly the same numbers; None is
    like None alone."""
    if found is None or wanted is None:
        assert found is wanted, f"expected {wanted}, got {found} {msg}"
        return
    if not isinstance(found, Tensor) or not isinstance(wanted, Tensor):
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other, rtol=rtol, atol=atol, equal_nan=equal_nan, msg=msg)
        return
    for what in ("shape", "dtype", "device"):
        one, other = getattr(found, what), getattr(wanted, what)
        assert one == other, f"expected the {what} {other}, got {one} {msg}"
    usual = TOLERANCES.get(found.dtype, (0.0, 0.0))
    np.testing.assert_allclose(
        found.detach().cpu().double().numpy(),
        wanted.detach().cpu().double().numpy(),
        rtol=usual[0] if rtol is None else rtol,
        atol=usual[1] if atol is None else atol,
        equal_nan=equal_nan,
        err_msg=msg,
    )


class DispatchMode(TorchDispatchMode):
    """Sees each operation on tensors; of a kind that is not kept from the compiler."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
