"""Asks nix-instantiate what a configuration of the NixOS module amounts to.

The module system is our own (minilib), so that nothing but the program is needed. Where NIXPKGS_LIB
names a checkout of nixpkgs' lib, the same tests run on that too.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONFIGURATIONS = {path.stem: path for path in sorted((HERE / "configurations").glob("*.nix"))}
REFUSED = {path.stem: path for path in sorted((HERE / "refused").glob("*.nix"))}

MINILIB = HERE / "minilib"
_NIXPKGS = os.environ.get("NIXPKGS_LIB")
LIBRARIES = [MINILIB, *([Path(_NIXPKGS)] if _NIXPKGS else [])]


class Refused(Exception):
    """The evaluation failed; the message is what Nix says."""


@cache
def machine(configuration: Path, library: Path = MINILIB) -> Mapping[str, Any]:
    """The machine with `configuration`, as evaluate.nix describes it. Raises Refused."""
    found: Mapping[str, Any] = _evaluate(configuration, library, "machine")
    if found["refusals"]:
        raise Refused("\n".join(found["refusals"]))
    return found


@cache
def options(library: Path = MINILIB) -> tuple[Mapping[str, Any], ...]:
    """Every option that users see, in the order of the names."""
    return tuple(_evaluate(CONFIGURATIONS["cpu"], library, "options"))


def _evaluate(configuration: Path, library: Path, attribute: str) -> Any:
    arguments = {"configuration": configuration, "libPath": library}
    named = [word for name, path in arguments.items() for word in ("--arg", name, str(path))]
    return instantiate(str(HERE / "evaluate.nix"), *named, "-A", attribute)


def instantiate(*arguments: str) -> Any:
    """The value of an expression. Raises Refused.

    The dummy store makes it work for every user and touch nothing.
    """
    command = ["nix-instantiate", "--store", "dummy://", "--eval", "--strict", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # Some releases print the beginning of the value before they fail: only the status tells.
    if done.returncode != 0:
        raise Refused(done.stderr)
    return json.loads(done.stdout)
