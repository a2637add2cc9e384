"""A Dockerfile's own steps, run in roots made with debootstrap.

What a base image holds is made of Debian's packages: a Python base from Debian's own Python of the
same version. Everything else is what the Dockerfile says: RUN, COPY, ENV, ARG, USER, WORKDIR.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts.container.chroot import Bind, Chroot, ChrootError, tool
from scripts.container.dockerfile import (
    Instruction,
    Stage,
    argument,
    assignments,
    expand,
    ignored,
    stages,
)

SUITE = "bookworm"
PYTHON = "3.11"
"""Debian's Python in that suite."""
PYTHON_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"

PASSED_ON = re.compile(r"PIP_\w+|(SSL|REQUESTS|CURL)_\w+|(?i:https?|no)_proxy")
"""Variables of this host that installing needs, whatever the Dockerfile is: a base image on another
host would have them from its engine."""


@dataclass(slots=True)
class Image:
    """A root, and how it is to be started."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    folder: str = "/"
    volumes: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: Instruction | None = None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Bases:
    """Roots that images begin with, made once and kept as archives."""

    def __init__(self, cache: Path, mirror: str | None) -> None:
        self.cache = cache
        self.mirror = mirror

    def unpack(self, name: str, root: Path) -> None:
        """Put the base of this name into a new folder."""
        archive = self.cache / f"{self._kind(name)}.tar"
        if not archive.exists():
            self._make(name, archive)
        root.mkdir(parents=True)
        subprocess.run([tool("tar"), "-xpf", archive, "-C", root], check=True)

    @staticmethod
    def _kind(name: str) -> str:
        image, _, tag = name.partition(":")
        if image == "python" and re.fullmatch(rf"{re.escape(PYTHON)}(\.\d+)?-slim-{SUITE}", tag):
            return f"{SUITE}-python{PYTHON}"
        if image == "debian" and tag == f"{SUITE}-slim":
            return SUITE
        raise ChrootError(
            f"FROM {name}: expected python:{PYTHON}-slim-{SUITE} or debian:{SUITE}-slim, which can "
            "be made of Debian's packages"
        )

    def _make(self, name: str, archive: Path) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        say(f"making {name} with debootstrap: some minutes, once; kept as {archive}")
        root = self.cache / f"{archive.stem}.new"
        shutil.rmtree(root, ignore_errors=True)
        python = self._kind(name) != SUITE
        options = [f"--include={PYTHON_PACKAGES}"] if python else []
        words = [tool("debootstrap"), "--variant=minbase", *options, SUITE, str(root)]
        if self.mirror:
            words.append(self.mirror)
        log = self.cache / f"{archive.stem}.log"
        with log.open("wb") as output:
            made = subprocess.run(words, stdout=output, stderr=output, check=False)
        if made.returncode:
            raise ChrootError(f"debootstrap ended with {made.returncode}; see {log}")
        if python:  # the names that a Python image has
            (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
            (root / "usr/local/bin/pip").symlink_to("/usr/bin/pip3")
        new = archive.with_suffix(".part")
        subprocess.run([tool("tar"), "-cpf", new, "-C", root, "."], check=True)
        new.rename(archive)
        shutil.rmtree(root)


def pip_settings() -> dict[str, str]:
    """This host's settings of pip, from its files and environment, as variables."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    found = {}
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        # `:env:.cert` after `global.cert`: the environment comes last, and wins.
        name = key.rsplit(".", 1)[-1].upper().replace("-", "_")
        found[f"PIP_{name}"] = value.strip("'\"")
    return found


def host_settings() -> dict[str, str]:
    """Variables of this host that are passed on to RUN."""
    given = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    return given | pip_settings()


def host_files(settings: Mapping[str, str]) -> list[Bind]:
    """Files and folders of this host that its settings name, seen at the same places."""
    found = {"/etc/resolv.conf"}
    for value in settings.values():
        for word in value.split():
            if word.startswith("file://"):
                # An index's files are beside its pages.
                found.add(str(Path(word.removeprefix("file://")).parent))
            elif word.startswith("/"):
                found.add(word)
    return [Bind(Path(path), path) for path in sorted(found) if Path(path).exists()]


class Builder:
    """Runs the steps of a Dockerfile."""

    def __init__(self, context: Path, work: Path, bases: Bases, caches: Path) -> None:
        self.context = context
        self.work = work
        self.bases = bases
        self.caches = caches
        ignore = context / ".dockerignore"
        self.patterns = ignore.read_text() if ignore.exists() else ""
        self.settings = host_settings()

    def build(self, text: str, build_args: Mapping[str, str], prefix: str) -> Image:
        """The image of the last stage."""
        made: dict[str, Image] = {}
        image = None
        for number, stage in enumerate(stages(text, build_args)):
            root = self.work / f"{prefix}-{number}"
            image = self._stage(stage, root, made, build_args)
            made[stage.name or str(number)] = image
        assert image is not None
        return image

    def _stage(
        self, stage: Stage, root: Path, made: Mapping[str, Image], build_args: Mapping[str, str]
    ) -> Image:
        say(f"FROM {stage.base}")
        if stage.base in made:
            raise ChrootError(f"FROM {stage.base}: a stage upon a stage is not known here")
        self.bases.unpack(stage.base, root)
        image = Image(root)
        image.environment["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        arguments: dict[str, str] = {}
        for one in stage.instructions:
            say(f"{one.name} {one.text}")
            known = {**arguments, **image.environment}
            if one.name == "ARG":
                name, default = argument(one)
                arguments[name] = build_args.get(name, default)
            elif one.name == "ENV":
                image.environment |= {k: expand(v, known) for k, v in assignments(one).items()}
            elif one.name == "WORKDIR":
                image.folder = str(Path(image.folder) / expand(one.text, known))
                (root / image.folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif one.name == "USER":
                image.user = one.text
            elif one.name == "COPY":
                self._copy(one, image, made)
            elif one.name == "RUN":
                self._run(one, image, arguments)
            elif one.name == "VOLUME":
                image.volumes += one.words()
            elif one.name == "ENTRYPOINT":
                image.entrypoint = one.words()
            elif one.name == "CMD":
                image.command = one.words()
            elif one.name == "HEALTHCHECK":
                image.health = one
        return image

    def _run(self, one: Instruction, image: Image, arguments: Mapping[str, str]) -> None:
        binds = host_files(self.settings)
        for flag, value in one.flags.items():
            options = dict(pair.partition("=")[::2] for pair in value.split(","))
            if flag != "mount" or options.get("type") != "cache":
                raise ChrootError(f"line {one.line}: --{flag}={value} is not known here")
            kept = self.caches / options["target"].strip("/").replace("/", "-")
            kept.mkdir(parents=True, exist_ok=True)
            binds.append(Bind(kept, options["target"], read_only=False))
        environment = {"HOME": "/root", **self.settings, **arguments, **image.environment}
        chroot = Chroot(
            image.root, binds, user=image.user, folder=image.folder, environment=environment
        )
        chroot.run(["/bin/sh", "-c", one.text])

    def _copy(self, one: Instruction, image: Image, made: Mapping[str, Image]) -> None:
        unknown = set(one.flags) - {"from"}
        if unknown:
            raise ChrootError(f"line {one.line}: COPY --{unknown.pop()} is not known here")
        *sources, target = one.words()
        place = image.root / str(Path(image.folder) / target).lstrip("/")
        into = target.endswith(("/", ".")) or len(sources) > 1
        stage = one.flags.get("from")
        for source in sources:
            if stage is not None:
                origin = made[stage].root / source.lstrip("/")
            else:
                origin = self.context / source
                out = source != "." and ignored(source, self.patterns)
                if out or not origin.exists():
                    raise ChrootError(f"line {one.line}: {source} is not in the context")
            if origin.is_dir():
                self._copy_folder(origin, place, source if stage is None else None)
            else:
                to = place / origin.name if into else place
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(origin, to)
                os.chown(to, 0, 0)

    def _copy_folder(self, origin: Path, place: Path, name: str | None) -> None:
        """What a folder holds; `name`: its path in the context, for .dockerignore."""
        place.mkdir(parents=True, exist_ok=True)
        if name is None:
            subprocess.run([tool("cp"), "-a", f"{origin}/.", place], check=True)
            return

        def left_out(folder: str, names: list[str]) -> list[str]:
            inside = Path(folder).relative_to(self.context)
            return [n for n in names if ignored((inside / n).as_posix(), self.patterns)]

        shutil.copytree(origin, place, ignore=left_out, dirs_exist_ok=True)
        subprocess.run([tool("chown"), "-R", "0:0", place], check=True)
