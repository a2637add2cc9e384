"""What stands in for a container engine in `scripts/check-container`: it must confine as one would,
or the check says nothing. These need root, as the check does."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from scripts.container.chroot import Bind, Chroot, ChrootError, Started
from scripts.container.service import INIT, remove
from tests.support.needs import needs

needs_setpriv = needs("setpriv", there=Path("/usr/bin/setpriv").exists())
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the host's programs, and a user."""
    root = tmp_path / "root"
    for folder in ("etc", "usr", "home/player"):
        (root / folder).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nplayer:x:1234:1234::/:/bin/sh\n")
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    os.chown(root / "home/player", 1234, 1234)
    return root


def confined(root: Path, **options: object) -> Chroot:
    given = {
        "tmpfs": ["/tmp"], "user": "player", "read_only": True, "no_capabilities": True,
        "no_new_privileges": True, "environment": {"PATH": "/usr/bin:/bin", "HOME": "/home/player"},
    }  # fmt: skip
    return Chroot(root, [Bind(Path("/usr"), "/usr")], **(given | options))  # type: ignore[arg-type]


def started(chroot: Chroot, log: Path, script: str) -> Started:
    return chroot.start(["/bin/sh", "-c", script], log)


@needs_root
@needs_setpriv
def test_room_confines_a_process(root: Path, tmp_path: Path) -> None:
    place = started(confined(root, shm_bytes=1 << 20), tmp_path / "log", "exec sleep 60")
    try:

        def said(script: str) -> str:
            ran = place.execute(["/bin/sh", "-c", script], 10)
            return ran.stdout + ran.stderr

        assert said("id -u; id -g").split() == ["1234", "1234"]
        status = said("cat /proc/self/status")
        for field in ("CapEff", "CapPrm", "CapBnd"):
            assert f"{field}:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert "Read-only file system" in said("echo x > ~/x")
        assert said("echo x > /tmp/x && cat /tmp/x") == "x\n"
        assert not Path("/tmp/x").exists() or Path("/tmp/x").read_text() != "x\n"
        assert "No space left" in said("head -c 2000000 /dev/zero > /dev/shm/x")
        # No other processes, no other network than loopback.
        assert said("ls -d /proc/[0-9]* | wc -l").strip() in ("3", "4", "5")
        assert [
            line.split(":")[0].strip() for line in said("cat /proc/net/dev").splitlines()[2:]
        ] == ["lo"]
        assert "127.0.0.1" in said("cat /proc/net/fib_trie")
    finally:
        place.kill()
    assert place.process.returncode is not None
    assert not Path(f"/proc/{place.first}").exists()
    remove(root)  # nothing is mounted in it
    assert not root.exists()


@needs_root
@needs_setpriv
def test_room_is_started_after_its_setup(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Chroot._setup
    monkeypatch.setattr(Chroot, "_setup", lambda chroot: "sleep 0.5\n" + setup(chroot))
    place = started(confined(root), tmp_path / "log", "exec sleep 60")
    try:
        assert place.execute(["/bin/sh", "-c", "id -u"], 10).stdout == "1234\n"
    finally:
        place.kill()


@needs_root
@needs_setpriv
def test_room_killed_ends_all_its_processes(root: Path, tmp_path: Path) -> None:
    place = started(confined(root), tmp_path / "log", "sleep 61 & sleep 62 & wait")
    deadline = time.monotonic() + 10
    children: list[str] = []
    while len(children) < 2 and time.monotonic() < deadline:
        children = Path(f"/proc/{place.first}/task/{place.first}/children").read_text().split()
    place.kill()
    assert len(children) == 2
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


@needs_root
@needs_setpriv
def test_build_step_sees_nothing_of_the_host(root: Path) -> None:
    before = sorted(path for path in root.rglob("*"))
    wheels = root.parent / "wheels"
    wheels.mkdir()
    chroot = Chroot(
        root, [Bind(Path("/usr"), "/usr"), Bind(wheels, "/opt/wheels")],
        environment={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    chroot.run(["/bin/sh", "-c", "test -d /opt/wheels && test -e /dev/null && test -e /proc/1"])
    assert sorted(path for path in root.rglob("*")) == before
    with pytest.raises(ChrootError, match="exit code 7"):
        chroot.run(["/bin/sh", "-c", "exit 7"])


def test_room_with_unknown_user_is_refused(root: Path) -> None:
    with pytest.raises(ChrootError, match="there is no such user"):
        Chroot(root, user="nobody-here").ids()


@pytest.mark.parametrize("code", [0, 7])
def test_init_exits_as_its_child_does(code: int) -> None:
    assert subprocess.call(["/bin/sh", "-c", INIT, "init", "/bin/sh", "-c", f"exit {code}"]) == code


def test_init_forwards_sigterm() -> None:
    script = 'trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done'
    with subprocess.Popen(
        ["/bin/sh", "-c", INIT, "init", "/bin/sh", "-c", script],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(10) == 9
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
