"""Every piece of Nix in the documents is one that works."""

import re
from pathlib import Path

import pytest

from tests.nix.evaluation import HERE, instantiate, machine
from tests.static.places import REPOSITORY

_README = REPOSITORY / "README.md"
_PAGE = REPOSITORY / "docs" / "deployment-nixos.md"
_FENCE = re.compile(r"^```nix\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _pieces(document: Path) -> list[str]:
    return _FENCE.findall(document.read_text())


_PIECES = [(document.name, text) for document in (_README, _PAGE) for text in _pieces(document)]
_CONFIGURATIONS = [text for _, text in _PIECES if "inputs." not in text]
_FLAKES = [text for _, text in _PIECES if "inputs." in text]


def test_it_takes_ten_lines_and_both_documents_show_the_same() -> None:
    (readme,) = _pieces(_README)
    assert readme == _pieces(_PAGE)[0]
    assert len(readme.splitlines()) == 10


@pytest.mark.parametrize("text", _CONFIGURATIONS, ids=lambda text: text.splitlines()[1].strip())
def test_a_configuration_shown_is_accepted(text: str, tmp_path: Path) -> None:
    shown = tmp_path / "shown.nix"
    shown.write_text(text)
    enabled = tmp_path / "enabled.nix"
    sops_nix = HERE / "sops_nix.nix" if "sopsSecret" in text else ""
    enabled.write_text(
        f"{{ imports = [ ./shown.nix {sops_nix} ]; services.unified-llm.enable = true; }}"
    )
    assert machine(enabled)["warnings"] == []


@pytest.mark.parametrize("text", _FLAKES, ids=lambda text: text.splitlines()[1].strip())
def test_a_flake_shown_is_one(text: str) -> None:
    expression = f"""
      let
        flake = {text};
        unified-llm.nixosModules.default = "the module";
        nixpkgs.lib.nixosSystem = system: builtins.head system.modules;
      in
      {{
        inputs = builtins.attrNames flake.inputs;
        module = (flake.outputs {{ inherit nixpkgs unified-llm; }}).nixosConfigurations.machine;
      }}
    """
    assert instantiate("--expr", expression) == {
        "inputs": ["nixpkgs", "unified-llm"],
        "module": "the module",
    }
