"""Model files come and go under the whole daemon: by themselves, and by the command line."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from tests.tiny_gguf import tiny_gguf, write_tiny_gguf
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]


def models(daemon: WholeDaemon) -> list[str]:
    with daemon.open_http() as http:
        return [model["id"] for model in http.get("/v1/models").json()["data"]]


def wait_for_models(daemon: WholeDaemon, *wanted: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while (found := models(daemon)) != list(wanted):
        assert time.monotonic() < deadline, (found, daemon.log())
        time.sleep(0.05)


def test_files_are_noticed_as_they_come_change_move_and_go() -> None:
    with open_daemon(with_bus=False) as daemon:
        folder = daemon.folder / "models"
        content = tiny_gguf()
        with (folder / "second.gguf").open("wb", buffering=0) as file:
            file.write(content[:1000])
            (folder / "sub").mkdir()
            write_tiny_gguf(folder / "sub" / "third.gguf")
            wait_for_models(daemon, "third", "tiny")
            file.write(content[1000:])
        wait_for_models(daemon, "second", "third", "tiny")
        (folder / "sub").rename(folder / "other")
        (folder / "other" / "third.gguf").rename(folder / "other" / "fourth.gguf")
        (folder / "second.gguf").unlink()
        wait_for_models(daemon, "fourth", "tiny")
        (folder / "tiny.gguf").write_bytes(b"no model any more")
        wait_for_models(daemon, "fourth")
        with daemon.open_http() as http:
            assert http.get("/health").json()["state"] == "degraded"


def test_a_file_of_a_user_is_imported_asked_and_removed(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "mine.gguf")
    with open_daemon() as daemon:
        taken = daemon.run("unified-llm", "models", "import", str(path), "--as", "org/mine:q4")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert (taken.returncode, taken.stderr) == (0, "")
        assert taken.stdout == f"org/mine:q4 is imported, SHA-256 {digest}\n"
        path.unlink()
        assert models(daemon) == ["org/mine:q4", "tiny"]
        asked = daemon.run("unified-llm", "chat", "--model", "org/mine:q4", "Hello there")
        assert asked.stdout == "Hello there\n"

        refused = daemon.run("unified-llm", "models", "rm", "--yes", "org/mine:q4")
        assert refused.returncode == 4
        assert "org/mine:q4 is ready" in refused.stderr
        unsaid = daemon.run("unified-llm", "models", "rm", "org/mine:q4", input="n\n")
        assert unsaid.returncode == 1
        assert models(daemon) == ["org/mine:q4", "tiny"]
        removed = daemon.run(
            "unified-llm", "models", "rm", "--force", "--json", "-y", "org/mine:q4"
        )
        assert json.loads(removed.stdout)["result"] == "removed"
        assert models(daemon) == ["tiny"]
        assert list((daemon.folder / "models" / "imported").iterdir()) == []
        done = [
            (record["UNIFIED_LLM_ACTION"], record["UNIFIED_LLM_RESULT"])
            for record in daemon.audit(4)
            if record["UNIFIED_LLM_OBJECT"] == "org/mine:q4"
        ]
        assert done == [
            ("import-model", "done"),
            ("generate", "done"),
            ("remove-model", "refused"),
            ("remove-model", "done"),
        ]


def test_what_can_not_be_imported_is_refused_with_the_reason(tmp_path: Path) -> None:
    wrong, right = tmp_path / "wrong.gguf", write_tiny_gguf(tmp_path / "right.gguf")
    wrong.write_bytes(b"GGUF" + bytes(100))
    with open_daemon() as daemon:
        for arguments, reason in (
            ((str(wrong), "--as", "a"), "The file is no model"),
            ((str(tmp_path), "--as", "a"), "not one of a regular file"),
            ((str(tmp_path / "nowhere"),), "can not be opened"),
            ((str(right),), "gives no name"),
            ((str(right), "--as", "tiny"), "There is a model tiny already"),
            ((str(right), "--as", "../../x"), "a model id"),
        ):
            refused = daemon.run("unified-llm", "models", "import", *arguments)
            assert (refused.returncode, refused.stdout) == (4, ""), refused
            assert reason in refused.stderr
        assert models(daemon) == ["tiny"]


def test_a_scan_can_be_asked_for_on_both_doors() -> None:
    with open_daemon() as daemon:
        found = daemon.run("unified-llm", "models", "scan")
        assert (found.returncode, found.stdout) == (0, "1 models: 0 new, 0 gone; 0 problems\n")
        with daemon.open_http() as http:
            answer = http.post("/v1/models/scan")
        assert (answer.status_code, answer.json()) == (
            200,
            {"models": 1, "added": 0, "removed": 0, "problems": 0},
        )


def test_a_full_disk_takes_nothing_in_and_keeps_nothing(tmp_path: Path) -> None:
    """The model directory is a file system of 256 KiB in a mount namespace of the daemon's own."""
    path, disk = write_tiny_gguf(tmp_path / "mine.gguf"), tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=256k none {disk} && exec "$0" "$@"'
    changes = {"models": {"directory": str(disk)}}
    wrapper = ("unshare", "--mount", "sh", "-c", mount)
    with open_daemon(changes, wrapper=wrapper) as daemon:
        inside = Path(f"/proc/{daemon.process.pid}/root{disk}")
        first = daemon.run("unified-llm", "models", "import", str(path), "--as", "first")
        assert first.returncode == 0, first.stderr
        full = daemon.run("unified-llm", "models", "import", str(path), "--as", "second")
        assert full.returncode == 6
        assert "the disk of the models has" in full.stderr
        assert [found.name for found in inside.rglob("*")] == ["imported", "first.gguf"]
        assert daemon.run("unified-llm", "models", "rm", "-y", "first").returncode == 0
        again = daemon.run("unified-llm", "models", "import", str(path), "--as", "second")
        assert again.returncode == 0, again.stderr
        assert models(daemon) == ["second"]
        assert os.listdir(disk) == []
