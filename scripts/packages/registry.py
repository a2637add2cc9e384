"""What the registry of pip's configuration serves of a package: files, hashes, metadata, state.

The registry is the one that pip uses (PIP_INDEX_URL, or its configuration, or its default), by the
interface of PEP 503 and 691; what it knows of a release beyond that, by the JSON interface beside
it, where it has one. Folders of pip's `find-links` count too: a machine may have builds of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import ssl
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

SIMPLE = "application/vnd.pypi.simple.v1+json"
TIMEOUT_S = 60.0

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")


class RegistryError(Exception):
    """The registry does not answer, or not as expected."""


@dataclass(frozen=True)
class File:
    """A file of a release."""

    name: str
    version: Version
    sha256: str
    uploaded: str
    """A date as YYYY-MM-DD; empty where the registry does not say."""
    yanked: str
    """Why it was withdrawn; empty if it was not."""
    url: str
    platforms: tuple[str, ...]
    """Of a wheel ("any" for all); none for a source."""
    pythons: tuple[str, ...]
    """Interpreters of a wheel, such as cp311 and py3."""
    abis: tuple[str, ...]


@dataclass(frozen=True)
class Project:
    """A package in the registry."""

    name: str
    files: tuple[File, ...]
    status: str
    """`active`, or why its authors or the registry advise against it (PEP 792)."""


class Registry:
    """Answers, each asked for once."""

    def __init__(self, index: str | None = None) -> None:
        """`index`: the address of the index; None for pip's."""
        self._index = (index or _configured("index-url") or _default()).rstrip("/") + "/"
        cafile = os.environ.get("PIP_CERT") or _configured("cert")
        self._context = ssl.create_default_context(cafile=cafile or None)

    def project(self, name: str) -> Project:
        """Errors: RegistryError."""
        url = urljoin(self._index, f"{canonicalize_name(name)}/")
        found = self._json(url, SIMPLE)
        if found is None:
            raise RegistryError(f"the registry has no package {name}")
        files = (_file(each, url) for each in found.get("files", ()))
        status = found.get("project-status") or {}
        state = status.get("status", "active") if isinstance(status, dict) else str(status)
        return Project(name, tuple(file for file in files if file), state)

    def metadata(self, file: File) -> list[str] | None:
        """The requirements of a wheel, which is read where the registry does not serve its metadata
        beside it (PEP 658); None where there is none. Errors: RegistryError."""
        data = self._get(f"{file.url}.metadata", "*/*") or self._metadata_in(file)
        if data is None:
            return None
        return Parser().parsestr(data.decode()).get_all("Requires-Dist") or []

    def _metadata_in(self, file: File) -> bytes | None:
        wheel = self._get(file.url, "*/*")
        if wheel is None:
            return None
        if hashlib.sha256(wheel).hexdigest() != file.sha256:
            raise RegistryError(f"{file.name} has not the hash that the registry says")
        with zipfile.ZipFile(io.BytesIO(wheel)) as opened:
            names = [name for name in opened.namelist() if _METADATA.fullmatch(name)]
            return opened.read(names[0]) if names else None

    def about(self, name: str, version: str | None = None) -> dict[str, Any] | None:
        """What the registry's JSON interface has of a package, or of one release; None for
        nothing."""
        base = self._index.removesuffix("simple/")
        part = f"/{version}" if version else ""
        found: dict[str, Any] | None = self._json(
            f"{base}pypi/{canonicalize_name(name)}{part}/json", "application/json"
        )
        return found

    def _json(self, url: str, kind: str) -> Any:
        data = self._get(url, kind)
        if data is None:
            return None
        try:
            return json.loads(data)
        except ValueError:
            raise RegistryError(
                "expected JSON of the registry (PEP 691), got something else; name one that has it "
                "with PIP_INDEX_URL"
            ) from None

    def _get(self, url: str, kind: str) -> bytes | None:
        """None where there is no such address."""
        scheme = urlsplit(url).scheme
        context = self._context if scheme == "https" else None
        try:
            with urlopen(
                Request(url, headers={"Accept": kind}), timeout=TIMEOUT_S, context=context
            ) as answer:
                data: bytes = answer.read()
                return data
        except HTTPError as error:
            if error.code in (404, 410):
                return None
            raise RegistryError(
                f"the registry answers {error.code} for {urlsplit(url).path}"
            ) from None
        except (URLError, TimeoutError) as error:
            raise RegistryError(f"the registry does not answer: {error}") from None


def local_files(name: str) -> list[File]:
    """Files of this package in the folders that pip is told to look into (`find-links`)."""
    places = " ".join(filter(None, (os.environ.get("PIP_FIND_LINKS"), _configured("find-links"))))
    found = []
    for folder in dict.fromkeys(Path(each) for each in places.split()):
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            file = _parsed(path.name, "", "", "", path.as_uri())
            if file and canonicalize_name(path.name.split("-")[0]) == canonicalize_name(name):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found.append(File(**{**vars(file), "sha256": digest}))
    return found


def _file(entry: dict[str, Any], page: str) -> File | None:
    yanked = entry.get("yanked") or ""
    return _parsed(
        entry["filename"],
        entry.get("hashes", {}).get("sha256", ""),
        str(entry.get("upload-time") or "")[:10],
        "yes" if yanked is True else str(yanked),
        urljoin(page, entry["url"]),
    )


def _parsed(name: str, sha256: str, uploaded: str, yanked: str, url: str) -> File | None:
    """None for what is neither a wheel nor a source."""
    try:
        if name.endswith(".whl"):
            _, version, _, tags = parse_wheel_filename(name)
            kinds = [tuple(sorted({getattr(tag, part) for tag in tags}))
                     for part in ("platform", "interpreter", "abi")]  # fmt: skip
        else:
            _, version = parse_sdist_filename(name)
            kinds = [(), (), ()]
    except (InvalidWheelFilename, InvalidSdistFilename, ValueError):
        return None
    return File(name, version, sha256, uploaded, yanked, url, *kinds)


@cache
def _configured(option: str) -> str:
    """What pip's configuration says; empty for nothing."""
    variable = os.environ.get(f"PIP_{option.upper().replace('-', '_')}")
    if variable:
        return variable
    for section in ("global", "install"):
        ran = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", f"{section}.{option}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ran.returncode == 0:
            return ran.stdout.strip()
    return ""


def _default() -> str:
    """The index that pip uses where nothing is configured."""
    code = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.strip()
