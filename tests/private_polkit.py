"""The real polkitd on a private bus, with our actions and rules and nobody else's.

It runs in a mount namespace of its own, where its folders are covered by ours: the machine's polkit
and its files stay as they are. Callers have no session here, so what counts is `allow_any`.
"""

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.private_bus import PrivateBus

POLKIT_FOLDER = Path(__file__).parent.parent / "polkit"
POLICY = POLKIT_FOLDER / "org.unifiedllm1.policy"
RULES = POLKIT_FOLDER / "org.unifiedllm1.rules"
EXAMPLE = POLKIT_FOLDER / "example.rules"
BUS_POLICY = Path("/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf")

_PROGRAM = "/usr/lib/polkit-1/polkitd"
_START = (
    "mount --bind {folder}/actions /usr/share/polkit-1/actions && "
    "mount --bind {folder}/rules /usr/share/polkit-1/rules.d && "
    f"exec {_PROGRAM} --no-debug"
)
_PATIENCE_SECONDS = 60


@contextmanager
def private_polkit(
    bus: PrivateBus, *, owner: str = "root", rules: Sequence[str] = (), owned: bool = True
) -> Iterator[None]:
    """Have polkitd decide on `bus`, which includes BUS_POLICY, while the body runs.

    owner: the user the daemon runs as. rules: further rules, before ours. owned: whether the
    actions say who their owner is.
    """
    with tempfile.TemporaryDirectory(prefix="private-polkit-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        _write_files(folder, owner, rules, owned=owned)
        with subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _START.format(folder=folder)],
            env=bus.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                _wait_for_name(bus, process)
                yield
            finally:
                process.terminate()


def _write_files(folder: Path, owner: str, rules: Sequence[str], *, owned: bool) -> None:
    policy = POLICY.read_text()
    mark = "unix-user:unified-llm"
    assert mark in policy
    if owned:
        policy = policy.replace(mark, f"unix-user:{owner}")
    else:
        policy = policy.replace("org.freedesktop.policykit.owner", "org.example.nobody")
    (folder / "actions").mkdir()
    (folder / "actions" / POLICY.name).write_text(policy)
    (folder / "rules").mkdir()
    (folder / "rules" / f"60-{RULES.name}").write_text(RULES.read_text())
    for number, text in enumerate(rules, start=10):
        (folder / "rules" / f"{number}-test.rules").write_text(text)
    # polkitd leaves root behind before it reads them.
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _wait_for_name(bus: PrivateBus, process: "subprocess.Popen[bytes]") -> None:
    ask = ("busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "NameHasOwner")
    end = time.monotonic() + _PATIENCE_SECONDS
    while "true" not in bus.run(*ask, "s", "org.freedesktop.PolicyKit1").stdout:
        assert process.poll() is None, "polkitd has ended"
        assert time.monotonic() < end, "polkitd does not take its name"
        time.sleep(0.05)
