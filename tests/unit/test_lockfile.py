"""requirements.lock: what is in it, and how it is read, made and checked."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from scripts.packages import check, lock, lockfile, registry
from scripts.packages.lockfile import LOCK, PARTS, Locked, main, parse, render
from scripts.packages.registry import File, Project, Registry, RegistryError

ROOT = Path(__file__).parents[2]
A, B, C = "a" * 64, "b" * 64, "c" * 64


# The file that is there.


def locked() -> list[Locked]:
    return parse(LOCK.read_text())


def test_lock_has_the_versions_of_constraints() -> None:
    pinned = dict(lock.pins((ROOT / "constraints.txt").read_text()).values())
    for each in locked():
        assert pinned[each.name] == each.version, "run: scripts/lock-packages"


def test_lock_has_what_pyproject_asks_for() -> None:
    there = {(canonicalize_name(each.name), part) for each in locked() for part in each.parts}
    for part, lines in lock.wanted().items():
        for line in lines:
            name = canonicalize_name(re.match(r"[\w.-]+", line)[0])  # type: ignore[index]
            expected = "torch" if name == "torch" else part
            if name not in lock.OURS:
                assert (name, expected) in there, f"{line}: run scripts/lock-packages"


def test_lock_has_hashes_of_several_machines() -> None:
    by_name = {each.name: each for each in locked()}
    for each in by_name.values():
        assert all(re.fullmatch(r"[0-9a-f]{64}", one) for one in each.hashes)
    for name in ("numpy", "msgspec", "uvloop"):  # 3 Pythons, 2 machines
        assert len(by_name[name].hashes) >= 6, name
    assert by_name["torch"].parts == ("torch",)
    assert len(by_name["torch"].hashes) >= 6


def test_lock_names_no_address() -> None:
    assert "://" not in LOCK.read_text()


# How it is written and read.


PACKAGES = [
    Locked("one", "1.0", "", ("server", "dev"), (A, B)),
    Locked("two", "2.0+cpu", 'platform_machine == "x86_64"', ("dev",), (C,)),
]


def test_lock_reads_what_it_writes() -> None:
    text = render(["made by a script", ""], PACKAGES)
    assert parse(text) == PACKAGES
    assert text.startswith("# made by a script\n#\n")


@pytest.mark.parametrize("text", [
    "one==1.0 --hash=sha256:aa",
    "# needed by: dev\none==1.0",
    "# needed by: dev\none>=1.0 --hash=sha256:aa",
])  # fmt: skip
def test_lock_refuses_what_is_no_pin_with_hashes(text: str) -> None:
    with pytest.raises(ValueError, match="expected NAME==VERSION"):
        parse(text)


def test_lockfile_prints_the_parts_that_pip_gets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["torch"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("torch==")
    assert said.count("--hash=sha256:") > 1
    assert main(["nothing"]) == 2
    assert main([]) == 2


def test_lockfile_knows_a_file_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "torch.whl"
    file.write_bytes(b"a build")
    digest = hashlib.sha256(b"a build").hexdigest()
    monkeypatch.setattr(lockfile, "LOCK", tmp_path / "lock")
    lockfile.LOCK.write_text(render([], [Locked("torch", "1", "", ("torch",), (A, digest))]))
    assert main(["--knows", "torch", str(file)]) == 0
    file.write_bytes(b"another build")
    assert main(["--knows", "torch", str(file)]) == 1
    file.write_bytes(b"a build")
    assert main(["--knows", "numpy", str(file)]) == 1


def test_lockfile_needs_nothing_that_is_installed() -> None:
    """scripts/install runs it first."""
    script = ROOT / "scripts/packages/lockfile.py"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", str(script), *PARTS], capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


# How it is made.


def file(name: str, sha256: str = A, uploaded: str = "2026-01-01", yanked: str = "") -> File:
    made = registry._parsed(name, sha256, uploaded, yanked, f"http://registry.invalid/{name}")
    assert made is not None
    return made


class FakeRegistry(Registry):
    """Packages by name: files, and by file the requirements; what is known of them besides."""

    def __init__(self, **packages: Any) -> None:
        self.packages = packages

    def project(self, name: str) -> Project:
        if name not in self.packages:
            raise RegistryError(f"the registry has no package {name}")
        one = self.packages[name]
        return Project(name, tuple(one["files"]), one.get("status", "active"))

    def metadata(self, file: File) -> list[str] | None:
        found: list[str] = self.packages[file.name.split("-")[0]].get("requires", [])
        return found

    def about(self, name: str, version: str | None = None) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.packages[name].get("about", {}).get(version)
        return found


def wheel(name: str, version: str, sha256: str, tags: str = "py3-none-any") -> File:
    return file(f"{name}-{version}-{tags}.whl", sha256)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that needs one, for building two, and torch."""
    monkeypatch.setattr(lock, "local_files", lambda _: [])
    (tmp_path / "clients/python").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["two"]\n[project]\nname = "x"\n'
        'dependencies = ["one>=1", "torch"]\n'
        "[project.optional-dependencies]\ndev = [\"three; platform_machine == 'x86_64'\"]\n"
    )
    (tmp_path / "clients/python/pyproject.toml").write_text('[project]\ndependencies = ["one"]\n')
    (tmp_path / "constraints.txt").write_text(
        "# pins\neditables==1\nfour==4.0\none==1.0\nthree==3.0\ntorch==2.0\ntwo==2.0\n"
    )
    return tmp_path


def served() -> FakeRegistry:
    return FakeRegistry(
        editables={"files": [wheel("editables", "1", A)]},
        one={
            "files": [
                wheel("one", "1.0", A, "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64"),
                wheel("one", "1.0", B, "cp311-cp311-macosx_11_0_arm64"),
                wheel("one", "1.0", C, "cp313-cp313t-manylinux_2_17_x86_64"),
                wheel("one", "1.1", C),
                file("one-1.0.tar.gz", "d" * 64),
            ],
            "requires": ["four>=4", 'tomli; python_version < "3.11"', 'five; extra == "more"'],
        },
        two={"files": [wheel("two", "2.0", B)]},
        three={"files": [wheel("three", "3.0", C)]},
        four={"files": [wheel("four", "4.0", A)]},
        torch={
            "files": [wheel("torch", "2.0", A, "cp311-cp311-manylinux_2_28_x86_64")],
            "requires": ["four", 'cuda; platform_system == "Linux"'],
        },
    )


def made(project: Path, found: Registry, before: list[Locked] | None = None) -> dict[str, Locked]:
    packages, _ = lock.make(found, before or [], project)
    return {each.name: each for each in packages}


def test_lock_has_all_that_is_needed_and_where(project: Path) -> None:
    found = made(project, served())
    assert {name: each.parts for name, each in found.items()} == {
        "editables": ("build",), "two": ("build",), "one": ("server",), "four": ("server",),
        "torch": ("torch",), "three": ("dev",),
    }  # fmt: skip
    assert found["three"].marker == 'platform_machine == "x86_64"'
    assert found["one"].marker == ""


def test_lock_has_the_hashes_of_files_for_this_projects_machines(project: Path) -> None:
    assert made(project, served())["one"].hashes == (A, "d" * 64), "no macOS, no other version"


def test_lock_adds_builds_of_this_machine_and_keeps_those_of_others(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = wheel("torch", "2.0+cpu", B, "cp311-cp311-manylinux_2_28_x86_64")
    monkeypatch.setattr(lock, "local_files", lambda name: [local] if name == "torch" else [])
    before = [
        Locked("torch", "2.0", "", ("torch",), (C,)),
        Locked("four", "3.9", "", ("server",), (C,)),
    ]
    found = made(project, served(), before)
    assert found["torch"].hashes == (A, B, C)
    assert found["four"].hashes == (A,), "another release's hash does not stay"


def test_lock_leaves_out_what_torch_alone_brings_and_nothing_else(project: Path) -> None:
    _, left_out = lock.make(served(), [], project)
    assert left_out == {("cuda", "torch")}
    registry = served()
    registry.packages["two"]["requires"] = ["six"]
    with pytest.raises(RegistryError, match=r"constraints\.txt lacks six \(for two\)"):
        lock.make(registry, [], project)


def test_lock_refuses_a_pin_that_somebody_cannot_use(project: Path) -> None:
    registry = served()
    registry.packages["two"]["requires"] = ["four<4"]
    with pytest.raises(RegistryError, match="two wants four<4"):
        lock.make(registry, [], project)


def test_lock_refuses_a_release_without_files(project: Path) -> None:
    registry = served()
    registry.packages["four"]["files"] = []
    with pytest.raises(RegistryError, match=r"no files of four 4\.0"):
        lock.make(registry, [], project)


# What is said of what is pinned.

TODAY = date(2026, 11, 28)


def said(**package: Any) -> check.Report:
    return check.python_package(FakeRegistry(one=package), "one", "1.0", TODAY)


def about(*vulnerabilities: dict[str, Any], version: str = "1.0", **info: Any) -> dict[str, Any]:
    return {"info": {"version": version} | info, "vulnerabilities": list(vulnerabilities)}


FRESH = [wheel("one", "1.0", A)]


def test_check_finds_nothing_in_a_package_that_is_well() -> None:
    found = said(files=FRESH, about={"1.0": about()})
    assert (found.wrong, found.stale, found.unknown) == ([], [], [])
    assert (found.newest, found.released) == ("1.0", "2026-01-01")


def test_check_names_vulnerabilities_and_what_fixes_them() -> None:
    one = {"id": "X-1", "aliases": ["CVE-1"], "summary": "bad", "fixed_in": ["1.2"]}
    over = {"id": "X-2", "withdrawn": "2026-01-01"}
    found = said(files=FRESH, about={"1.0": about(one, over)})
    assert found.wrong == ["vulnerable: X-1, CVE-1 bad (fixed in 1.2)"]


def test_check_names_withdrawn_and_suspect_packages() -> None:
    files = [file("one-1.0-py3-none-any.whl", yanked="broken"), wheel("one", "0.9", B)]
    found = said(files=files, status="quarantined", about={"1.0": about()})
    assert found.wrong == [
        "withdrawn: broken", "the registry holds it back as suspect (quarantined)",
    ]  # fmt: skip


def test_check_names_what_seems_unmaintained() -> None:
    old = [file("one-1.0-py3-none-any.whl", uploaded="2024-11-27")]
    found = said(
        files=old, status="archived", about={"1.0": about(classifiers=[check.INACTIVE])}
    )  # fmt: skip
    assert found.stale == [
        "its authors call it archived", "its authors call it inactive",
        "nothing published since 2024-11-27",
    ]  # fmt: skip
    assert said(files=[file("one-1.0-py3-none-any.whl", uploaded="2024-11-29")]).stale == []


def test_check_says_what_the_registry_does_not_serve() -> None:
    found = said(files=[file("one-1.0-py3-none-any.whl", uploaded="")])
    assert found.unknown == ["vulnerabilities of this release", "when it was last published"]
    # Of the newest release alone, and the pinned one is that, or is not.
    assert said(files=FRESH, about={None: about()}).unknown == []
    newer = said(files=FRESH, about={None: about(version="2.0")})
    assert newer.unknown == ["vulnerabilities of this release"]


def test_check_exits_with_1_where_something_is_vulnerable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [check.Report("one", "1.0", "1.0", "2026-01-01")]
    monkeypatch.setattr(check, "reports", lambda *_: found)
    monkeypatch.setattr(check, "Registry", FakeRegistry)
    assert check.main([]) == 0
    assert "vulnerable or withdrawn: none" in capsys.readouterr().out
    found[0].wrong.append("vulnerable: X-1")
    assert check.main([]) == 1
    assert "one 1.0: vulnerable: X-1" in capsys.readouterr().out
    assert check.main(["--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["wrong"] == ["vulnerable: X-1"]


def test_check_knows_the_packages_of_other_registries() -> None:
    names = dict(check.npm_packages())
    assert re.fullmatch(r"\d+\.\d+\.\d+", names["uplot"])
    assert len(names) == 2
