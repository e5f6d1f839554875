"""downloads.pruning."""

import logging
from pathlib import Path

import pytest

from unified_llm.downloads.pruning import prune_folder


def test_what_is_declared_stays_also_by_way_of_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "imported"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.gguf").touch()
    (tmp_path / "link.gguf").symlink_to(folder / "b.gguf")
    removed = prune_folder(folder, [folder / "a.gguf", tmp_path / "link.gguf"])
    assert removed == (folder / "c.gguf",)
    assert sorted(path.name for path in folder.iterdir()) == ["a.gguf", "b.gguf"]


def test_other_files_and_a_folder_that_is_not_there_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert prune_folder(tmp_path, []) == ()
    assert prune_folder(tmp_path / "nowhere", []) == ()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_can_not_be_removed_stays_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder.gguf").mkdir()
    with caplog.at_level(logging.WARNING):
        assert prune_folder(tmp_path, []) == ()
    assert "folder.gguf is not declared and can not be removed" in caplog.text
