"""Certificates for tests, made by the command openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.needs import needs

needs_openssl = needs("openssl")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


def make(folder: Path, name: str = "server", *, of: str = "IP:127.0.0.1", days: int = 30) -> Pair:
    """One that has signed itself, for these names (subjectAltName)."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", str(pair.key), "-out", str(pair.cert), "-days", str(days),
        "-subj", "/CN=understudy test", "-addext", f"subjectAltName={of}",
    )  # fmt: skip
    return pair


def openssl(*words: str) -> None:
    """Run it; its output where it fails."""
    ran = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
