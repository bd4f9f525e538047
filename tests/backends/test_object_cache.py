"""Object code on disk: found by other processes, believed only where it is whole and ours."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loopgrad.backends.llvm.compiling import engine, objects, passes
from loopgrad.cache import files, keys

DOUBLE = "define i64 @twice(i64 %n) { %m = add i64 %n, %n\n ret i64 %m }"

CHILD = """
import numpy as np, loopgrad as lg
from loopgrad.cache import files
print(lg.program("f(x[N]) -> y[N]:\\n    y[n] = 3 * x[n] + 1")(np.arange(3.0)).tolist())
print({name.split()[0] for name in files.counts if name.endswith("object")})
"""
RIGHT = "[1.0, 4.0, 7.0]"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and no counts."""
    monkeypatch.setenv("LOOPGRAD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("LOOPGRAD_CACHE", raising=False)
    files.counts.clear()
    yield tmp_path / "cache"
    files.counts.clear()


def loaded() -> int:
    """What a module says whose code comes from the disk, where it is there."""
    import ctypes

    code = engine.load(DOUBLE)
    return int(ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address("twice"))(21))


def start(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def output(child: subprocess.Popen[str]) -> list[str]:
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return out.splitlines()


# ------------------------------------------------------------------------------------ processes


def test_two_processes_at_once_then_one_that_compiles_nothing(folder: Path) -> None:
    for answer, _ in map(output, [start(), start()]):
        assert answer == RIGHT
    assert output(start()) == [RIGHT, "{'hit'}"]
    assert not list(folder.glob(".draft*"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("off", [{"LOOPGRAD_CACHE": "0"}, {"LOOPGRAD_CACHE_DIR": ""}])
def test_turned_off(folder: Path, off: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in off.items():
        monkeypatch.setenv(name, value)
    assert loaded() == 42
    assert files.folder() is None
    assert not folder.exists()


def test_threads_at_once(folder: Path) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(loaded())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [42] * 8


def test_a_library_is_found_without_writing_its_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write() -> str:
        written.append(True)
        return DOUBLE.replace("twice", "loopgrad_test_doubled")

    for what, times in (("two", 1), ("two", 1), ("three", 2)):
        monkeypatch.setattr(engine, "_libraries", {})
        engine.library(write, ["loopgrad_test_doubled"], what=what)
        assert len(written) == times


# --------------------------------------------------------------------------------------- damage


def kept(folder: Path) -> Path:
    assert loaded() == 42
    (file,) = folder.glob("object-*")
    files.counts.clear()
    return file


def assert_made_anew(folder: Path) -> None:
    assert loaded() == 42
    assert files.counts["miss object"] == 1
    assert files.counts["stored object"] == 1
    assert loaded() == 42
    assert files.counts["hit object"] == 1


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda data: b"",
    "half of it": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\0",
    "only the head": lambda data: data[: len(files.FORMAT) + files.DIGEST_BYTES],
    "another program's": lambda data: b"\x7fELF" + data,
    "another format": lambda data: data.replace(b"loopgrad 1\n", b"loopgrad 9\n", 1),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_made_anew(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    file = kept(folder)
    file.write_bytes(damage(file.read_bytes()))
    assert_made_anew(folder)


def test_each_byte_counts(folder: Path) -> None:
    file = kept(folder)
    data = file.read_bytes()
    key = file.name.removeprefix("object-").removesuffix(files.SUFFIX)
    start = len(files.FORMAT) + files.DIGEST_BYTES
    for place in [*range(start + 40), *range(start + 40, len(data), 23), len(data) - 1]:
        changed = bytearray(data)
        changed[place] ^= 0x10
        file.write_bytes(changed)
        assert objects.read(key) is None, place
    file.write_bytes(data)
    assert objects.read(key) is not None


def test_a_file_under_another_name_is_not_believed(folder: Path) -> None:
    file = kept(folder)
    other = "0" * 64
    file.rename(folder / f"object-{other}{files.SUFFIX}")
    assert objects.read(other) is None


# ------------------------------------------------------------------------------------ permissions


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions as POSIX has them")
class TestOthers:
    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_a_file_that_others_may_write(self, folder: Path, mode: int) -> None:
        kept(folder).chmod(mode)
        assert_made_anew(folder)

    @pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
    def test_a_folder_that_others_may_write(self, folder: Path, mode: int) -> None:
        file = kept(folder)
        before = file.stat().st_mtime_ns
        folder.chmod(mode)
        assert loaded() == 42
        assert files.counts == {"miss object": 1, "refused object": 1}
        assert file.stat().st_mtime_ns == before

    def test_what_belongs_to_another(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        kept(folder)
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
        assert loaded() == 42
        assert files.counts == {"miss object": 1, "refused object": 1}

    def test_a_link_is_not_followed(self, folder: Path) -> None:
        file = kept(folder)
        elsewhere = folder.parent / "elsewhere"
        file.rename(elsewhere)
        file.symlink_to(elsewhere)
        assert_made_anew(folder)
        assert not file.is_symlink()

    def test_a_pipe_does_not_make_it_wait(self, folder: Path) -> None:
        file = kept(folder)
        file.unlink()
        os.mkfifo(file)
        assert_made_anew(folder)

    def test_a_folder_that_cannot_be_written(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept(folder)

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError("read-only")

        for name in ("replace", "utime", "unlink", "mkdir"):
            monkeypatch.setattr(os, name, refuse)
        monkeypatch.setattr(tempfile, "mkstemp", refuse)
        assert loaded() == 42  # found
        monkeypatch.setattr(files, "FRESH", -1.0)
        assert loaded() == 42  # found, and not marked as used
        assert files.counts == {"hit object": 2}
        engine.load(DOUBLE.replace("twice", "again"))
        assert files.counts["refused object"] == 1


def test_no_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LOOPGRAD_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert loaded() == 42


def test_a_disk_that_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert loaded() == 42
    assert files.counts == {"miss object": 1, "refused object": 1}
    assert list(folder.iterdir()) == []


# ------------------------------------------------------------------------------------------- size


def test_what_was_used_longest_ago_goes_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST", 4 * files.BLOCK)
    monkeypatch.setattr(files, "_written", 0)  # no sweep comes before the one asked for
    for number in range(8):
        files.write("object", str(number), bytes(90 if number % 2 else 3000))
        os.utime(folder / f"object-{number}{files.SUFFIX}", (1000 + number, 1000 + number))
    (folder / "notes.txt").write_text("somebody's " * 1000)
    assert files.read("object", "0") is not None  # used, which makes it the newest
    files.sweep(folder)
    left = {f.name for f in folder.iterdir()}
    assert left == {"notes.txt", *(f"object-{n}{files.SUFFIX}" for n in (0, 6, 7))}


def test_the_size_is_looked_at_while_files_are_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST", 20 * files.BLOCK)
    monkeypatch.setattr(files, "SWEEP_EVERY", 2 * files.BLOCK)
    for number in range(100):
        files.write("object", str(number), bytes(1000))
    assert 0 < len(list(folder.iterdir())) < 24


def test_drafts_that_nobody_finished_are_deleted(folder: Path) -> None:
    files.write("object", "0", b"contents")
    old, new = folder / f".draft-old{files.SUFFIX}", folder / f".draft-new{files.SUFFIX}"
    for draft in (old, new):
        draft.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    files.sweep(folder)
    assert not old.exists()
    assert new.exists()


# ------------------------------------------------------------------------------------------- keys


def test_the_name_of_code_holds_all_that_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(text: str = DOUBLE, kind: passes.Passes = passes.LITERAL) -> str:
        objects._environment.cache_clear()
        return objects.key_of(text, kind)

    names = [name(), name(kind=passes.EXPLICIT), name(DOUBLE + "\n")]
    machine = objects.this_machine()
    changes = (
        (objects, "this_machine", lambda: replace(machine, cpu="other")),
        (objects, "this_machine", lambda: replace(machine, features="+other")),
        (objects.llvmlite, "__version__", "0.0"),
        (objects.llvm, "llvm_version_info", (1, 2, 3)),
        (objects.llvm, "get_default_triple", lambda: "other"),
        (keys, "program_version", lambda: "other"),
    )
    for module, attribute, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(module, attribute, value)
            names.append(name())
    assert len(set(names)) == len(names) == 9
    assert name() == names[0]


def test_parts_of_a_key_do_not_run_together() -> None:
    assert keys.key("ab", "c") != keys.key("a", "bc") != keys.key("a", "b", "c")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a package that stands for this one."""
    source = tmp_path / "loopgrad" / "ir" / "nodes.py"
    source.parent.mkdir(parents=True)
    source.write_text("a = 1")
    monkeypatch.setattr(keys.loopgrad, "__file__", str(tmp_path / "loopgrad" / "__init__.py"))
    return source


def test_an_edit_of_the_package_is_another_version(package: Path) -> None:
    version = keys.program_version.__wrapped__
    versions = [version()]
    assert version() == versions[0]
    package.write_text("a = 2")
    os.utime(package, (1, 1))
    versions.append(version())
    (package.parent / "text.ll").write_text("")
    versions.append(version())
    assert len(set(versions)) == 3


def test_another_installation_is_another_version(package: Path) -> None:
    record = package.parents[2] / f"loopgrad-{keys.loopgrad.__version__}.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text("loopgrad/ir/nodes.py")
    version = keys.program_version.__wrapped__
    versions = [version()]
    assert version() == versions[0]
    record.write_text("loopgrad/ir/nodes.py")
    os.utime(record, (1, 1))
    versions.append(version())
    (package.parent / "more.py").write_text("")
    os.utime(package.parent, (1, 1))
    versions.append(version())
    assert len(set(versions)) == 3


def test_a_package_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "packages.zip"
    archive.write_bytes(b"PK")
    monkeypatch.setattr(keys.loopgrad, "__file__", str(archive / "loopgrad" / "__init__.py"))
    version = keys.program_version.__wrapped__
    before = version()
    assert version() == before
    os.utime(archive, (1, 1))
    assert version() != before


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOPGRAD_CACHE", "LOOPGRAD_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path.replace("~", "/home/me"))
    places = {
        "linux": "/home/me/.cache/loopgrad",
        "darwin": "/home/me/Library/Caches/loopgrad",
        "win32": "/home/me/loopgrad/Cache",
    }
    for platform, place in places.items():
        monkeypatch.setattr(files.sys, "platform", platform)
        assert files.folder() == Path(place)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert files.folder() == Path("/home/me/loopgrad/Cache")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/mine")
    assert files.folder() == Path("/var/mine/loopgrad")
    monkeypatch.setenv("LOOPGRAD_CACHE_DIR", "~/here")
    assert files.folder() == Path("/home/me/here")


def test_code_from_the_disk_calls_what_it_called_before(folder: Path) -> None:
    text = "f(x[N]) -> y[N]:\n    y[n] = x[n] ** 2.5"
    import loopgrad as lg

    first = lg.program(text)
    expected = first(np.arange(1.0, 5.0))
    engine.forget()
    again = lg.program(text)(np.arange(1.0, 5.0))
    assert files.counts["hit object"] == 1
    np.testing.assert_array_equal(again, expected)
    np.testing.assert_allclose(again, np.arange(1.0, 5.0) ** 2.5, rtol=1e-15)
