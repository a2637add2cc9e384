"""Files that somebody made to do harm: one clear error, and little memory."""

from __future__ import annotations

import functools
import io
import pickle
import struct
import tempfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import checkpoint, journal, npz, recording
from agent.checkpoint import CheckpointError
from agent.npz import Npz, NpzError
from agent.priority import SavedPriorities
from agent.recording import RecordingError
from server.play.policy_file import FILE_BYTES, PolicyError, PolicyFile
from tests.support import forged
from tests.support.recordings import demonstrated

pytestmark = pytest.mark.promise("hostile-files")

LARGE = 2**26
"""What a file unpacks to where it is believed."""

BOUND = 2**25
"""The memory that nobody needs more of to see that it is not."""


@contextmanager
def little_memory(bound: int = BOUND) -> Iterator[None]:
    """What happens here takes little memory at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < bound
    finally:
        tracemalloc.stop()


@functools.cache
def a_recording() -> tuple[bytes, str]:
    """A recording that is right, and its digest."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo.npz"
        recording.write(path, demonstrated(n=20))
        return path.read_bytes(), recording.read(path).digest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of that recording."""
    path = tmp_path / "demo.npz"
    path.write_bytes(a_recording()[0])
    return path


def refused(path: Path) -> str:
    """How a recording is refused: one line, the file first, and what to do."""
    with little_memory(), pytest.raises(RecordingError) as error:
        recording.read(path)
    text = str(error.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert "expected" in text
    assert ";" in text
    return text


# Recordings: what is in the zip.


def foreign_entry(path: Path) -> None:
    forged.zeros_behind(path, "bomb.npy", b"", LARGE)


def foreign_array(path: Path) -> None:
    head = forged.npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({LARGE},), }}\n")
    forged.zeros_behind(path, "bomb.npy", head, LARGE)


def rows(count: int, name: str = "reward", descr: str = "<f4") -> Callable[[Path], None]:
    """One column says that it has so many rows."""

    def forge(path: Path) -> None:
        content = forged.entries(path)
        header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({count},), }}\n"
        content[f"{name}.npy"] = forged.npy(header, bytes(160))
        forged.write(path, content)

    return forge


def every_column(path: Path) -> None:
    """All columns say that they have 10^12 rows."""
    content = forged.entries(path)
    for name, data in content.items():
        content[name] = data.replace(b"(42,", b"(1000000000000,")
        length = int.from_bytes(data[8:10], "little")
        more = len(content[name]) - len(data)
        content[name] = content[name][:8] + struct.pack("<H", length + more) + content[name][10:]
    forged.write(path, content)


def long_header(path: Path) -> None:
    """Of the second version of .npy: its length has four bytes."""
    forged.zeros_behind(path, "more.npy", b"", 0)
    content = forged.entries(path)
    del content["more.npy"], content["reward.npy"]
    forged.write(path, content)
    head = b"\x93NUMPY\x02\x00" + struct.pack("<I", LARGE)
    forged.zeros_behind(path, "reward.npy", head, LARGE)


def column_of_zeros(path: Path) -> None:
    """A known entry, packed as well as can be, and longer than its header says."""
    content = forged.entries(path)
    reward = content.pop("reward.npy")
    forged.write(path, content)
    forged.zeros_behind(path, "reward.npy", reward, LARGE)


def content(name: str, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> Callable[[Path], None]:
    def forge(path: Path) -> None:
        forged.write(path, forged.entries(path) | {f"{name}.npy": data}, method)

    return forge


def in_directory(offset: int, form: str, value: int, which: str = "") -> Callable[[Path], None]:
    def forge(path: Path) -> None:
        data = bytearray(path.read_bytes())
        forged.set_in_directory(data, offset, form, value, which)
        path.write_bytes(data)

    return forge


def far_away(path: Path) -> None:
    """An entry of zip64, whose offset is a number of 64 bits."""
    data = bytearray(path.read_bytes())
    at = next(forged.directory(data))
    name = struct.unpack_from("<H", data, at + 28)[0]
    extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    struct.pack_into("<H", data, at + 30, len(extra))
    struct.pack_into("<I", data, at + 42, 2**32 - 1)
    data[at + 46 + name : at + 46 + name] = extra
    end = data.rfind(b"PK\x05\x06")
    length = struct.unpack_from("<I", data, end + 12)[0]
    struct.pack_into("<I", data, end + 12, length + len(extra))
    path.write_bytes(data)


def many_entries(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(20_000):
            archive.writestr(f"{number:08d}{'x' * 40}.npy", b"")


def long_name(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a\nb\x1b[31m" + "x" * 60_000, b"")


FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "foreign entry": (foreign_entry, "and no others, got 'bomb.npy'"),
    "foreign array": (foreign_array, "and no others, got 'bomb.npy'"),
    "foreign name": (long_name, "and no others, got 'a\\nb"),
    "many entries": (many_entries, "bytes of directory"),
    "10^12 rows": (rows(10**12), "header for 4,000,000,000,000: float32 [1000000000000]"),
    "10^30 rows": (rows(10**30), "header for 4,000,000"),
    "10^12 rows of nothing": (rows(10**12, "spec", "<U0"), "expected numbers or text"),
    "10^12 rows everywhere": (every_column, "header for"),
    "fewer rows": (rows(1), "header for 4: float32 [1]"),
    "negative rows": (rows(-5), "expected numbers or text"),
    "long header": (long_header, "version 1.0"),
    "column of zeros": (column_of_zeros, "expected an array of"),
    "no array": (content("reward", b"hello"), "version 1.0"),
    "empty entry": (content("reward", b""), "version 1.0"),
    "no header": (content("reward", forged.npy("1 +")), "entry 'reward'"),
    "nested header": (content("reward", forged.npy("(" * 4000)), "entry 'reward'"),
    "header of 60 kB": (content("reward", forged.npy("{" * 60_000)), "at most 4,096 bytes"),
    "objects": (content("reward", forged.npy(
        "{'descr': '|O', 'fortran_order': False, 'shape': (42,), }\n", bytes(336))), "'object'"),
    "fields": (content("reward", forged.npy(
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (42,), }\n", bytes(168))),
        "column 'reward': expected float32 [42]"),
    "fields of objects": (content("reward", forged.npy(
        "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (42,), }\n", bytes(336))),
        "expected numbers or text"),
    "spec of no text": (content("spec", forged.array(np.zeros((3, 3)))), "expected one text"),
    "spec that is long": (content("spec", forged.array("x" * 2**24)), "expected one text"),
    "version of 10 MB": (content("version", forged.array("1" * 2**21)), "expected one text"),
    "format of 10 MB": (content("format", forged.array("1" * 2**21)), "expected one text"),
    "weights of 10 MB": (content("reward_weights", forged.array(np.ones(2**20))), "a weight for"),
    "bzip2": (content("reward", b"", zipfile.ZIP_BZIP2), "in a way that understudy does not use"),
    "lzma": (content("reward", b"", zipfile.ZIP_LZMA), "in a way that understudy does not use"),
    "unknown packing": (in_directory(forged.METHOD, "<H", 99), "does not use"),
    "encrypted": (in_directory(forged.FLAGS, "<H", 1), "does not use"),
    "longer in the directory": (
        in_directory(forged.UNPACKED, "<I", 2**31, "obs"), "expected at most"),
    "a little longer": (in_directory(forged.UNPACKED, "<I", 700, "obs"), "entry 'obs'"),
    "shorter in the directory": (in_directory(forged.UNPACKED, "<I", 130, "obs"), "entry 'obs'"),
    "packed longer": (in_directory(forged.PACKED, "<I", 2**30), "expected entries within its"),
    "elsewhere": (in_directory(forged.OFFSET, "<I", 5), "cannot be read"),
    "all at one place": (in_directory(forged.OFFSET, "<I", 0), "cannot be read"),
    "far away": (far_away, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_recording_is_refused_with_little_memory(name: str, path: Path) -> None:
    forge, said = FORGED[name]
    forge(path)
    assert path.stat().st_size < 2**22
    assert said in refused(path)


def test_entry_that_is_there_twice_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("reward.npy", b"")
    assert "got 'reward.npy' twice" in refused(path)


def test_recording_beyond_the_memory_of_the_process_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that it says is so, and there is no room for it."""
    monkeypatch.setattr(npz, "memory_bytes", lambda: 3000)
    assert "expected at most" in refused(path)


@given(data=st.data())
@settings(
    max_examples=40, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_recording_with_any_field_of_the_directory_or_a_header_changed_is_refused_or_the_same(
    data: st.DataObject, path: Path
) -> None:
    """Two bytes or four of the zip's own numbers are others, anywhere in them."""
    good, truth = a_recording()
    begin = good.find(b"PK\x01\x02")
    at = data.draw(st.integers(begin, len(good) - 4))
    value = data.draw(
        st.sampled_from([0, 1, 2**16 - 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
    )
    form = data.draw(st.sampled_from("HI"))
    changed = bytearray(good)
    struct.pack_into("<" + form, changed, at, value % 2 ** (16 if form == "H" else 32))
    path.write_bytes(changed)
    text = ""
    try:
        with little_memory():
            found = recording.read(path)
        assert found.digest == truth
    except RecordingError as error:
        text = str(error)
    assert "\n" not in text


@given(
    header=st.text(max_size=80)
    | st.builds(
        "{{'descr': {!r}, 'fortran_order': {}, 'shape': {}, }}\n".format,
        st.sampled_from(["<f4", ">f4", "|O", "<U9999999", "|V4", "<f8", "<M8[s]", "f4,f4", ""]),
        st.sampled_from(["True", "False", "1"]),
        st.sampled_from(["()", "(42,)", "(0,)", "(42, 1)", "(10**9,)", "(True,)", "(2**70, 0)"]),
    ),
    size=st.integers(0, 200),
)
@settings(
    max_examples=40, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_recording_with_any_header_of_a_column_is_refused(
    header: str, size: int, path: Path
) -> None:
    path.write_bytes(a_recording()[0])
    forged.write(
        path,
        forged.entries(path)
        | {"seq.npy": forged.npy(header.encode("latin1", "replace").decode("latin1"), bytes(size))},
    )
    refused(path)


# Recordings under way.


def test_episode_that_unpacks_large_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "EPISODE_BYTES", 2**20)
    packed = zlib.compress(bytes(LARGE), 9)
    path.write_bytes(forged.episode(packed))
    assert "expected an episode of at most" in refused(path)


@pytest.mark.parametrize(
    "content",
    [b"hello", zlib.compress(b"hello"), zlib.compress(b""), zlib.compress(b"hello")[:-3]],
)
def test_episode_of_something_else_is_refused(content: bytes, path: Path) -> None:
    path.write_bytes(forged.episode(content))
    refused(path)


def test_episodes_beyond_the_memory_together_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.unlink()
    for _ in range(10):
        recording.append(path, demonstrated(n=20))
    assert len(recording.read(path).rows) == 10 * 42
    monkeypatch.setattr(recording, "memory_budget", lambda: 5 * 42 * 40)
    assert "expected at most" in refused(path)


# Other files.


def test_zip_is_opened_only_with_a_short_directory() -> None:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number:060d}", b"")
    with little_memory(), pytest.raises(NpzError, match="bytes of directory"):
        Npz(memory)


STATE = {"spec": "game", "learner": {"network": {"weight": torch.zeros(100)}}}


def torch_file(path: Path, state: Any, method: int = zipfile.ZIP_STORED) -> None:
    """A checkpoint with this state, its entries packed like this."""
    memory = io.BytesIO()
    torch.save({"format": checkpoint.FORMAT, "version": 1, "state": state}, memory)
    with zipfile.ZipFile(memory) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    forged.write(path, content, method)


def in_itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def laughing() -> list[Any]:
    """Ten times the same within ten times the same, and so on: a few bytes, 10^12 values."""
    found: list[Any] = []
    for _ in range(12):
        found = [found] * 10
    return found


@pytest.mark.promise("damaged-checkpoint")
@pytest.mark.parametrize(
    ("state", "method", "said"),
    [
        ({"a": torch.zeros(2**24)}, zipfile.ZIP_DEFLATED, "does not use"),
        ({"a": torch.zeros(1).expand(10**12)}, zipfile.ZIP_STORED, "bytes, got more"),
        ({"a": in_itself()}, zipfile.ZIP_STORED, "within each other"),
        ({"a": laughing()}, zipfile.ZIP_STORED, "values"),
        ({"a": torch.zeros(3).to_sparse()}, zipfile.ZIP_STORED, "plain tensors"),
        ({"a": torch.zeros(10**9, device="meta")}, zipfile.ZIP_STORED, "plain tensors"),
        ({"a": "x" * 2**23}, zipfile.ZIP_STORED, "beside the tensors"),
        ([1, 2], zipfile.ZIP_STORED, "it has no state"),
        (None, zipfile.ZIP_STORED, "it has no state"),
    ],
    ids=["packed", "one number", "in itself", "laughing", "sparse", "meta", "long", "list", "none"],
)
def test_forged_checkpoint_is_refused_with_little_memory(
    state: Any, method: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "VALUES", 10_000)
    path = tmp_path / "update-1.pt"
    torch_file(path, state, method)
    with little_memory(), pytest.raises(CheckpointError) as error:
        checkpoint.load(path)
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.promise("damaged-checkpoint")
@given(data=st.data())
@settings(
    max_examples=40, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_checkpoint_with_any_bytes_of_its_pickle_changed_is_refused_or_read(
    data: st.DataObject, tmp_path: Path
) -> None:
    """The checksums are right: whoever forges files can do that."""
    path = tmp_path / "update-1.pt"
    torch_file(path, STATE)
    content = forged.entries(path)
    name = next(name for name in content if name.endswith("data.pkl"))
    changed = bytearray(content[name])
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    forged.write(path, content | {name: bytes(changed)}, zipfile.ZIP_STORED)
    text = str(path)
    try:
        assert isinstance(checkpoint.load(path), dict)
    except CheckpointError as error:
        text = str(error)
    assert str(path) in text


@pytest.mark.promise("damaged-priorities")
def test_forged_priorities_are_not_used(tmp_path: Path) -> None:
    journal.write_priorities(
        tmp_path,
        SavedPriorities(
            np.arange(5), np.arange(5, dtype=np.uint32), np.ones(5, np.float32), np.float32(1)
        ),
    )
    path = tmp_path / journal.PRIORITIES
    assert journal.read_priorities(tmp_path) is not None
    content = forged.entries(path)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    forged.write(path, content | {"priority.npy": forged.npy(header, bytes(20))})
    with little_memory():
        assert journal.read_priorities(tmp_path) is None
    forged.write(path, content)
    forged.zeros_behind(path, "bomb.npy", b"", LARGE)
    with little_memory():
        assert journal.read_priorities(tmp_path) is None


def test_policy_of_any_length_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    with path.open("wb") as file:
        file.truncate(FILE_BYTES + 1)
    with little_memory(), pytest.raises(PolicyError, match=r"at most 2,147,483,648 bytes, got"):
        PolicyFile.load(path)


def test_pickles_are_never_read(path: Path) -> None:
    """Neither as a recording nor within one."""
    path.write_bytes(pickle.dumps({"format": recording.FORMAT}))
    refused(path)
    recording.write(path, demonstrated())
    forged.write(path, forged.entries(path) | {"reward.npy": pickle.dumps([1.0])})
    refused(path)
