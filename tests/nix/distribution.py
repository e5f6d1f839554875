"""The files that a distribution other than NixOS installs, rendered from the NixOS module.

`make dist` writes them into dist/, laid out as they are installed.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.nix.evaluation import CONFIGURATIONS, HERE, machine

_REPOSITORY = HERE.parents[1]
_CONFIGURATION = _REPOSITORY / "nixos-module" / "elsewhere.nix"
_OLDER_SYSTEMD = "systemd-before-257.conf"
_ORIGIN = "# Rendered from nixos-module/ by `make dist`.\n"


def render_files() -> dict[str, str]:
    """Every file by its path in the system."""
    found = machine(_CONFIGURATION)
    units = {
        f"usr/lib/systemd/system/{name}": _ORIGIN + text for name, text in found["units"].items()
    }
    user_units = {
        f"usr/lib/systemd/user/{name}": _ORIGIN + text for name, text in found["userUnits"].items()
    }
    bus = {
        f"usr/{path}": text for path, text in (found["dbusFiles"] | found["polkitFiles"]).items()
    }
    return {
        **units,
        **user_units,
        **bus,
        "usr/lib/sysusers.d/unified-llm.conf": _ORIGIN + _render_accounts(found),
        f"usr/share/doc/unified-llm/{_OLDER_SYSTEMD}": _older_systemd(),
        "usr/share/doc/unified-llm/network.conf": _ORIGIN + _render_network(),
        "usr/share/doc/unified-llm/config.example.yaml": _example(),
    }


def write_files(folder: Path) -> None:
    """Write them under `folder`."""
    for path, text in render_files().items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def _render_accounts(found: Mapping[str, Any]) -> str:
    """In the words of sysusers.d(5). A user brings a group of its name."""
    accounts = [
        f'u {name} - "unified-llm daemon" /var/lib/unified-llm\n' for name in found["users"]
    ]
    groups = [f"g {name} -\n" for name in found["groups"] if name not in found["users"]]
    return "".join([*accounts, *groups])


def _render_network() -> str:
    """A drop-in for providers: in what the unit of a machine with one differs."""
    closed, opened = (
        machine(CONFIGURATIONS[name])["units"]["unified-llm.service"].splitlines()
        for name in ("cpu", "provider_in_settings")
    )
    added = [line for line in opened if line not in closed]
    removed = {line.partition("=")[0] for line in closed if line not in opened}
    replaced = {line.partition("=")[0] for line in added}
    resets = [f"{directive}=" for directive in sorted(removed - replaced)]
    return "\n".join(["[Service]", *resets, *added]) + "\n"


def _older_systemd() -> str:
    return (_REPOSITORY / "daemon" / "data" / _OLDER_SYSTEMD).read_text()


def _example() -> str:
    return (_REPOSITORY / "docs" / "reference" / "config.example.yaml").read_text()


if __name__ == "__main__":
    write_files(Path(sys.argv[1]))
