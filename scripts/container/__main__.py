"""The long check: build the image in a clean root, start it, play, stop it, start it again."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.container import compose as composing
from scripts.container.acts import check_game, check_root, check_server
from scripts.container.checks import problems
from scripts.container.chroot import ChrootError
from scripts.container.image import Bases, Builder, say
from scripts.container.service import remove

ROOT = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "understudy"


@contextmanager
def work_folder(parent: Path | None, keep: bool) -> Iterator[Path]:
    """A new folder, which is gone in the end unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="understudy-container-", dir=parent))
    try:
        yield folder
    finally:
        if keep:
            say(f"kept: {folder}")
        else:
            remove(folder)


def size_mb(folder: Path) -> int:
    used = subprocess.run(["du", "-sm", folder], capture_output=True, text=True, check=True)
    return int(used.stdout.split()[0])


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/check-container", description=__doc__)
    parser.add_argument("--static", action="store_true", help="read the files only")
    parser.add_argument(
        "--mame", action="store_true", help="build the game's image too, and have it play"
    )
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--mirror", help="where debootstrap gets packages; default: its own")
    parser.add_argument("--work", type=Path, help="folder for the roots; they take some GB")
    parser.add_argument(
        "--patience",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="for a busy machine: how many times as long as it should everything may take",
    )
    parser.add_argument("--keep", action="store_true", help="leave the roots there")
    args = parser.parse_args()

    found = problems(ROOT)
    for problem in found:
        say(problem)
    say(f"the files: {len(found)} problems" if found else "the files: nothing to complain of")
    if args.static or found:
        return int(bool(found))
    if os.geteuid() != 0:
        say("the long check needs root (chroot, mounts, debootstrap); --static does not")
        return 2

    # So that a SIGTERM, too, leaves neither processes nor folders behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    given = dict(one.partition("=")[::2] for one in args.build_arg)
    compose = composing.read((ROOT / "docker-compose.yml").read_text(), given)
    try:
        with work_folder(args.work, args.keep) as work:
            bases = Bases(CACHE / "bases", args.mirror)
            builder = Builder(ROOT, work, bases, CACHE / "caches")
            image = builder.build((ROOT / "Dockerfile").read_text(), given, "server")
            say(f"built after {time.monotonic() - began:.0f} s; "
                f"{size_mb(image.root / 'opt/understudy')} MB in /opt/understudy")  # fmt: skip
            check_root(image)
            check_server(image, compose, work, args.patience)
            if args.mame:
                games = Builder(ROOT / "clients/mame", work, bases, CACHE / "caches")
                game = games.build((games.context / "Dockerfile").read_text(), {}, "mame")
                check_game(image, game, compose, work, args.patience)
    except (ChrootError, subprocess.CalledProcessError) as error:
        say(f"FAILED: {error}")
        return 1
    say(f"all well after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
