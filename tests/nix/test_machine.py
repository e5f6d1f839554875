"""What a NixOS machine gets from each configuration."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.nix.evaluation import CONFIGURATIONS, LIBRARIES, machine
from unified_llm.settings.credentials import UNSET


@pytest.fixture(params=LIBRARIES, ids=lambda path: path.name)
def library(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def _service(name: str, library: Path) -> str:
    text: str = machine(CONFIGURATIONS[name], library)["units"]["unified-llm.service"]
    return text


def _directives(name: str, library: Path, directive: str) -> list[str]:
    lines = _service(name, library).splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{directive}=")]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_evaluates_without_a_warning(name: str, library: Path) -> None:
    assert machine(CONFIGURATIONS[name], library)["warnings"] == []


def test_a_disabled_service_changes_nothing(library: Path) -> None:
    found = machine(CONFIGURATIONS["disabled"], library)
    assert not found["units"]
    assert not found["etc"]
    assert not found["users"]
    assert not found["groups"]
    assert not found["dbusFiles"]
    assert not found["systemPackages"]


def test_one_line_brings_service_socket_account_and_bus(library: Path) -> None:
    found = machine(CONFIGURATIONS["cpu"], library)
    assert found["units"].keys() == {"unified-llm.service", "unified-llm.socket"}
    assert found["users"]["unified-llm"]["isSystemUser"]
    assert found["groups"].keys() == {"unified-llm", "unified-llm-admin"}
    assert found["dbusFiles"].keys() == {
        "share/dbus-1/system.d/org.unifiedllm1.conf",
        "share/dbus-1/system-services/org.unifiedllm1.service",
    }
    assert found["isPolkitOn"]
    assert found["polkitFiles"].keys() == {
        "share/polkit-1/actions/org.unifiedllm1.policy",
        "share/polkit-1/rules.d/60-org.unifiedllm1.rules",
    }
    assert "unified-llm" in found["systemPackages"]
    assert found["kernelModules"] == []


def test_users_may_use_the_socket_and_admins_manage_too(library: Path) -> None:
    groups = machine(CONFIGURATIONS["users_and_admins"], library)["groups"]
    assert groups["unified-llm"]["members"] == ["alice", "bob"]
    assert groups["unified-llm-admin"]["members"] == ["bob"]


def test_the_socket_is_made_as_the_settings_say(library: Path) -> None:
    found = machine(CONFIGURATIONS["overridden_leaves"], library)
    socket = found["units"]["unified-llm.socket"].splitlines()
    assert f"ListenStream={found['settings']['socket']['path']}" in socket
    assert "SocketMode=0666" in socket
    assert "SocketGroup=unified-llm" in socket


def test_an_account_of_the_operators_own_may_own_the_bus_name(library: Path) -> None:
    found = machine(CONFIGURATIONS["own_account"], library)
    policy = found["dbusFiles"]["share/dbus-1/system.d/org.unifiedllm1.conf"]
    assert '<policy user="llm">' in policy
    assert 'user="unified-llm"' not in policy
    actions = found["polkitFiles"]["share/polkit-1/actions/org.unifiedllm1.policy"]
    assert "unix-user:llm<" in actions
    assert "unix-user:unified-llm" not in actions
    assert found["users"].keys() == {"llm"}
    assert _directives("own_account", library, "User") == ["llm"]
    # The permissions name these two groups, whoever the daemon is.
    assert {"unified-llm", "unified-llm-admin"} <= found["groups"].keys()


def test_without_dbus_nothing_is_on_the_bus(library: Path) -> None:
    found = machine(CONFIGURATIONS["without_dbus"], library)
    assert found["dbusFiles"] == {}
    assert found["polkitFiles"] == {}
    assert not found["isPolkitOn"]
    assert _directives("without_dbus", library, "BusName") == []


def test_logins_get_the_helper_for_games_where_it_can_reach_the_daemon(library: Path) -> None:
    units = machine(CONFIGURATIONS["cpu"], library)["userUnits"]
    text = units["unified-llm-session.service"]
    assert "/bin/unified-llm session --vram 4G\n" in text
    assert "WantedBy=graphical-session.target" in text
    for name in ("without_dbus", "another_bus", "without_session"):
        assert machine(CONFIGURATIONS[name], library)["userUnits"] == {}


def test_systemd_knows_the_name_on_the_system_bus_only(library: Path) -> None:
    assert _directives("cpu", library, "BusName") == ["org.unifiedllm1"]
    assert _directives("another_bus", library, "BusName") == []


def test_the_own_model_directory_is_part_of_the_state(library: Path) -> None:
    assert "unified-llm/models" in _directives("cpu", library, "StateDirectory")
    assert machine(CONFIGURATIONS["cpu"], library)["tmpfiles"] == {}


@pytest.mark.parametrize("name", ["foreign_directory", "overridden_leaves"])
def test_another_model_directory_is_made_and_its_mount_waited_for(name: str, library: Path) -> None:
    found = machine(CONFIGURATIONS[name], library)
    rule = found["tmpfiles"]["unified-llm"]["/srv/models"]["d"]
    assert rule == {"user": "unified-llm", "group": "unified-llm", "mode": "0755"}
    assert _directives(name, library, "RequiresMountsFor") == ["/srv/models"]
    assert _directives(name, library, "StateDirectory") == ["unified-llm"]


def test_no_model_directory_needs_no_directory(library: Path) -> None:
    assert machine(CONFIGURATIONS["without_directory"], library)["tmpfiles"] == {}
    assert _directives("without_directory", library, "StateDirectory") == ["unified-llm"]


def test_stopping_waits_for_running_answers(library: Path) -> None:
    assert _directives("cpu", library, "TimeoutStopSec") == ["60"]
    assert _directives("overridden_leaves", library, "TimeoutStopSec") == ["150"]


@pytest.mark.parametrize("name", ["cuda", "cuda_by_driver"])
def test_cuda_opens_the_drivers_devices_and_nothing_else(name: str, library: Path) -> None:
    assert _directives(name, library, "PrivateDevices") == ["false"]
    assert _directives(name, library, "DevicePolicy") == ["closed"]
    assert _directives(name, library, "DeviceAllow") == [
        "char-nvidia rw",
        "char-nvidia-frontend rw",
        "char-nvidiactl rw",
        "char-nvidia-caps rw",
        "char-nvidia-uvm rw",
    ]
    assert machine(CONFIGURATIONS[name], library)["kernelModules"] == ["nvidia_uvm"]
    after = " ".join(_directives(name, library, "After")).split()
    assert "systemd-modules-load.service" in after


def test_without_acceleration_no_device_is_open(library: Path) -> None:
    assert _directives("cpu", library, "PrivateDevices") == ["true"]
    assert _directives("cpu", library, "DeviceAllow") == []


_NETWORK = ("PrivateNetwork", "IPAddressDeny", "IPAddressAllow", "RestrictAddressFamilies")
_CLOSED: dict[str, list[str]] = {
    "PrivateNetwork": ["true"],
    "IPAddressDeny": ["any"],
    "IPAddressAllow": [],
    "RestrictAddressFamilies": ["AF_UNIX"],
}
_INET = ["AF_UNIX", "AF_INET", "AF_INET6"]
_LOOPBACK = {
    **_CLOSED,
    "PrivateNetwork": ["false"],
    "IPAddressAllow": ["localhost"],
    "RestrictAddressFamilies": _INET,
}
_OPEN = {**_LOOPBACK, "IPAddressDeny": [], "IPAddressAllow": []}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cpu", _CLOSED),
        ("cuda", _CLOSED),
        ("providers_on_sockets", _CLOSED),
        ("providers_on_loopback", _LOOPBACK),
        ("sops_unused", _LOOPBACK),
        ("providers", _OPEN),
        ("provider_in_settings", _OPEN),
        ("cuda_and_providers", _OPEN),
    ],
)
def test_the_network_is_opened_as_far_as_providers_need_it(
    name: str, expected: dict[str, list[str]], library: Path
) -> None:
    assert {each: _directives(name, library, each) for each in _NETWORK} == expected


def test_providers_loosen_nothing_but_the_network(library: Path) -> None:
    changed = {*_NETWORK, "LoadCredential", "SetCredential"}
    closed, opened = (
        [
            line
            for line in _service(name, library).splitlines()
            if line.partition("=")[0] not in changed
        ]
        for name in ("cpu", "providers")
    )
    assert opened == closed


def test_a_key_is_a_credential_that_may_be_missing(library: Path) -> None:
    loaded = _directives("providers", library, "LoadCredential")
    # systemd would replace what a single percent sign begins.
    assert loaded == ["provider-deepseek:/etc/secrets/50%% deepseek"]
    assert _directives("providers", library, "SetCredential") == [f"provider-deepseek:{UNSET}"]
    assert _directives("cpu", library, "LoadCredential") == []
    assert _directives("cpu", library, "SetCredential") == []


def test_a_key_may_be_a_secret_of_sops(library: Path) -> None:
    assert _directives("sops", library, "LoadCredential") == [
        "provider-deepseek:/run/secrets/deepseek",
        "provider-openai:/run/secrets/another",
        "provider-proxied:/run/secrets/deepseek",
    ]
    secrets = machine(CONFIGURATIONS["sops"], library)["secrets"]
    assert {name: each["restartUnits"] for name, each in secrets.items()} == {
        "deepseek": ["unified-llm.service"],
        "renamed": ["unified-llm.service"],
    }


def test_sops_is_left_alone_where_nothing_is_taken_from_it(library: Path) -> None:
    assert machine(CONFIGURATIONS["sops_unused"], library)["secrets"] == {}


def test_a_change_of_providers_restarts_the_service(library: Path) -> None:
    """They are a section that a reload leaves."""
    assert _triggers("providers", library)["restart"] != _triggers("cpu", library)["restart"]


def test_the_sandbox_is_loosened_only_where_it_is_asked_for(library: Path) -> None:
    assert _directives("loosened", library, "MemoryDenyWriteExecute") == ["false"]
    assert _directives("loosened", library, "ProtectHome") == ["read-only"]
    assert _directives("loosened", library, "PrivateDevices") == ["false"]
    assert _directives("loosened", library, "DeviceAllow") == ["/dev/dxg rw"]
    changed = {"MemoryDenyWriteExecute", "ProtectHome", "PrivateDevices", "DeviceAllow"}
    as_ever = [
        line
        for line in _service("cpu", library).splitlines()
        if line.partition("=")[0] not in changed
    ]
    assert set(as_ever) <= set(_service("loosened", library).splitlines())


def test_several_modules_may_speak_of_the_service(library: Path) -> None:
    found = machine(CONFIGURATIONS["merged_modules"], library)
    assert set(found["groups"]["unified-llm"]["members"]) == {"alice", "carol"}
    assert found["settings"]["log"]["level"] == "warning"
    assert found["settings"]["defaults"]["slots"] == 3
    assert found["settings"]["models"]["one"]["path"] == "/srv/one.gguf"


def _fetched_models(library: Path) -> dict[str, str]:
    """Where the file of each model comes from: the store path, then what was fetched into it."""
    models = machine(CONFIGURATIONS["declared_and_fetched"], library)["settings"]["models"]
    return {name: model["path"] for name, model in models.items() if name != "directory"}


def test_a_fetched_model_is_pinned_by_its_hash(library: Path) -> None:
    fetched = _fetched_models(library)
    by_url = "?from=https://models.example.org/tiny.gguf&sha256=832db069"
    assert by_url in fetched["by-url"]
    hub = "?from=https://huggingface.co/owner/name/resolve"
    assert f"{hub}/main/folder/model.Q4_1.gguf&sha256=sha256-" in fetched["by/hugging:face"]
    assert f"{hub}/0123abc/model.gguf&sha256=" in fetched["pinned-revision"]


def test_a_fetched_model_has_a_lawful_name_in_the_store(library: Path) -> None:
    path = Path(_fetched_models(library)["by/hugging:face"].partition("?")[0])
    # A store path may hold neither a slash nor a colon.
    assert path.parent == Path("/nix/store")
    assert path.name.endswith("-by-hugging-face.gguf")


def test_the_settings_are_checked_when_the_system_is_built(library: Path) -> None:
    file = machine(CONFIGURATIONS["cpu"], library)["etc"]["unified-llm/config.yaml"]
    assert "/bin/unified-llm config check " in file["script"]
    unchecked = machine(CONFIGURATIONS["unchecked"], library)
    text = unchecked["etc"]["unified-llm/config.yaml"]["text"]
    assert json.loads(text) == unchecked["settings"]


def test_the_unit_names_no_settings_file_of_the_store(library: Path) -> None:
    """Else each change of the settings would restart the daemon and lose the loaded models."""
    command = _directives("cpu", library, "ExecStart")
    assert [line.partition(" ")[2] for line in command] == ["--config /etc/unified-llm/config.yaml"]


def _triggers(name: str, library: Path) -> dict[str, Any]:
    found: dict[str, Any] = machine(CONFIGURATIONS[name], library)["triggers"]["unified-llm"]
    return found


def test_a_change_of_models_reloads_and_one_of_the_socket_restarts(library: Path) -> None:
    plain = _triggers("cpu", library)
    assert _triggers("declared_and_fetched", library)["restart"] == plain["restart"]
    assert _triggers("overridden_leaves", library)["restart"] != plain["restart"]
    assert plain["reload"]
