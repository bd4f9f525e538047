"""Checkpoints: whole or absent, read back bit for bit, refused where they are something else."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

from loopgrad.examples import checkpoints
from loopgrad.examples.checkpoints import Checkpoint, CheckpointError, load, save

RNG = np.random.default_rng(5)
MADE = Checkpoint(
    "text",
    {"hidden": 3, "rate": 0.1, "dtype": "float32"},
    "abc",
    7,
    {
        "w": RNG.normal(size=5).astype(np.float32),
        "γ": RNG.normal(size=(2, 3)),
        "none": np.zeros((0, 4)),
        "odd": np.array([np.nan, -0.0, np.inf]),
    },
    {"threads": 2},
)


def test_what_is_read_is_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint"
    save(path, MADE)
    found = load(path, "text")
    assert (found.kind, found.settings, found.data) == (MADE.kind, MADE.settings, MADE.data)
    assert (found.step, found.by) == (7, {"threads": 2})
    assert set(found.arrays) == set(MADE.arrays)
    for name, array in MADE.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        assert found.arrays[name].tobytes() == array.tobytes()
    assert os.listdir(tmp_path) == ["a.checkpoint"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "a", tmp_path / "b"
    save(path, MADE)
    link.symlink_to(path)
    save(link, Checkpoint("text", {}, "abc", 8, {}))
    assert link.is_symlink()
    assert load(path, "text").step == 8


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = tmp_path / "a.checkpoint"
    save(path, MADE)

    def broken(*given: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, fails, broken)
    with pytest.raises(OSError, match="no space left"):
        save(path, Checkpoint("text", {}, "abc", 8, {}))
    monkeypatch.undo()
    assert load(path, "text").step == 7
    assert os.listdir(tmp_path) == ["a.checkpoint"]


def test_drafts_of_the_killed_are_swept(tmp_path: Path) -> None:
    path = tmp_path / "a[1].checkpoint"
    old, new = (tmp_path / f".a[1].checkpoint.draft-{i}" for i in (1, 2))
    other = tmp_path / ".a1.checkpoint.draft-3"
    for draft in (old, new, other):
        draft.write_bytes(b"half")
        if draft is not new:
            os.utime(draft, (0, 0))
    save(path, MADE)
    assert not old.exists()
    assert new.exists()
    assert other.exists()


def test_every_damaged_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint"
    save(path, MADE)
    whole = path.read_bytes()
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            found = load(path, "text")
        except CheckpointError as error:
            assert (
                "damaged" in str(error) or "format" in str(error) or "checkpoint of" in str(error)
            )
        else:  # padding and dates of the archive
            assert (found.step, found.settings) == (MADE.step, MADE.settings)
            assert all(found.arrays[n].tobytes() == a.tobytes() for n, a in MADE.arrays.items())
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError, match="is no checkpoint, or a damaged one"):
            load(path, "text")


def test_what_is_no_checkpoint_of_this_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.checkpoint"
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load(path, "text")
    save(path, MADE)
    with pytest.raises(CheckpointError, match="is a checkpoint of `text`, not of `digits`"):
        load(path, "digits")
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    with pytest.raises(CheckpointError, match="has format 1; this version of loopgrad reads 2"):
        load(path, "text")
    np.savez(tmp_path / "b.npz", w=np.zeros(3))
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        load(tmp_path / "b.npz", "text")
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    path.write_bytes(pickled.getvalue())
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        load(path, "text")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path, "text")
