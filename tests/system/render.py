"""What NixOS would install for `providers.nix`.

`python -m tests.system.render FOLDER` writes it.
"""

import sys
from pathlib import Path

from tests.nix.evaluation import machine

_CONFIGURATION = Path(__file__).with_name("providers.nix")


def write_machine(folder: Path) -> None:
    """The units and the settings file, laid out as NixOS does."""
    found = machine(_CONFIGURATION)
    files = {f"systemd/system/{name}": text for name, text in found["units"].items()}
    files |= {name: file["text"] for name, file in found["etc"].items()}
    for name, text in files.items():
        file = folder / "etc" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    write_machine(Path(sys.argv[1]))
