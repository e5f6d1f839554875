"""What `make dist` renders is complete, and understood by the programs it is for."""

import subprocess
from configparser import ConfigParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.nix.distribution import render_files, write_files
from tests.nix.evaluation import CONFIGURATIONS, machine
from tests.static.places import REPOSITORY, pyproject

_PAGE = REPOSITORY / "docs" / "deployment-debian.md"
_SERVICE = "usr/lib/systemd/system/unified-llm.service"
_SOCKET = "usr/lib/systemd/system/unified-llm.socket"
_SESSION = "usr/lib/systemd/user/unified-llm-session.service"
_DATA = REPOSITORY / "daemon" / "data"


def test_the_unit_is_the_one_of_nixos_but_for_the_programs_place() -> None:
    ours = [line for line in render_files()[_SERVICE].splitlines() if not line.startswith("#")]
    theirs = machine(CONFIGURATIONS["cpu"])["units"]["unified-llm.service"].splitlines()
    differing = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
    (only,) = differing
    assert only[0] == (
        "ExecStart=/opt/unified-llm/bin/unified-llmd --config /etc/unified-llm/config.yaml"
    )
    assert only[1].startswith("ExecStart=/nix/store/")


def test_nothing_points_into_the_nix_store() -> None:
    assert [path for path, text in render_files().items() if "/nix/" in text] == []


def test_the_bus_files_are_those_of_the_tree() -> None:
    files = render_files()
    policy = files["usr/share/dbus-1/system.d/org.unifiedllm1.conf"]
    activation = files["usr/share/dbus-1/system-services/org.unifiedllm1.service"]
    assert policy == (_DATA / "org.unifiedllm1.conf").read_text()
    assert activation == (_DATA / "org.unifiedllm1.service").read_text()
    polkit = REPOSITORY / "polkit"
    actions = files["usr/share/polkit-1/actions/org.unifiedllm1.policy"]
    rules = files["usr/share/polkit-1/rules.d/60-org.unifiedllm1.rules"]
    assert actions == (polkit / "org.unifiedllm1.policy").read_text()
    assert rules == (polkit / "org.unifiedllm1.rules").read_text()
    ElementTree.fromstring(policy)
    parser = ConfigParser()
    parser.read_string(activation)
    started = parser["D-BUS Service"]["SystemdService"]
    assert f"usr/lib/systemd/system/{started}" in files


@pytest.mark.system
def test_systemd_would_make_the_account_and_the_groups(tmp_path: Path) -> None:
    write_files(tmp_path)
    accounts = tmp_path / "usr" / "lib" / "sysusers.d" / "unified-llm.conf"
    done = subprocess.run(
        ["systemd-sysusers", "--dry-run", accounts], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert accounts.read_text().splitlines()[1:] == [
        'u unified-llm - "unified-llm daemon" /var/lib/unified-llm',
        "g unified-llm-admin -",
    ]


def test_the_drop_in_for_providers_opens_the_network_and_nothing_else() -> None:
    assert render_files()["usr/share/doc/unified-llm/network.conf"].splitlines()[1:] == [
        "[Service]",
        "IPAddressDeny=",
        "PrivateNetwork=false",
        "RestrictAddressFamilies=AF_INET",
        "RestrictAddressFamilies=AF_INET6",
    ]


@pytest.mark.system
@pytest.mark.parametrize("name", ["systemd-before-257.conf", "network.conf"])
def test_every_systemd_reads_the_drop_ins(name: str, tmp_path: Path) -> None:
    """All of their lines are old enough for every systemd, so none may be complained of."""
    write_files(tmp_path)
    service = tmp_path / _SERVICE
    drop_ins = service.with_name("unified-llm.service.d")
    drop_ins.mkdir()
    drop_in = tmp_path / "usr/share/doc/unified-llm" / name
    (drop_ins / name).write_text(drop_in.read_text())
    text = service.read_text().replace("/opt/unified-llm/bin/unified-llmd", "/bin/true")
    service.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", service],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert name not in done.stderr


def test_the_page_speaks_of_what_is_there() -> None:
    page = _PAGE.read_text()
    files = render_files()
    assert set(pyproject()["project"]["scripts"]) == {"unified-llm", "unified-llmd"}
    for name in ("systemd-before-257.conf", "network.conf"):
        drop_in = f"usr/share/doc/unified-llm/{name}"
        assert drop_in in files
        assert f"dist/{drop_in}" in page
    assert "/usr/share/doc/unified-llm/config.example.yaml" in page
    for unit in (_SERVICE, _SOCKET, _SESSION):
        assert unit in files
        assert Path(unit).name in page
