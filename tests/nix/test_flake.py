"""The flake evaluates as far as that goes without nixpkgs, and agrees with pyproject.toml."""

import json
import re
from functools import cache
from typing import Any

import pytest

from tests.nix.evaluation import HERE, instantiate
from tests.static.places import REPOSITORY, pyproject
from unified_llm.settings.load import parse_settings

_NIX_FILES = sorted(
    [
        REPOSITORY / "flake.nix",
        *(REPOSITORY / "nixos-module").rglob("*.nix"),
        *HERE.rglob("*.nix"),
    ]
)


@cache
def _flake(attribute: str) -> Any:
    return instantiate(str(HERE / "flake.nix"), "-A", attribute)


def test_the_flake_has_one_input_that_others_may_replace() -> None:
    assert _flake("inputs") == ["nixpkgs"]


def test_the_flake_offers_what_a_user_of_flakes_expects() -> None:
    assert set(_flake("outputs")) == {
        "checks",
        "devShells",
        "formatter",
        "nixosModules",
        "overlays",
        "packages",
    }
    assert set(_flake("systems")) == {"aarch64-linux", "x86_64-linux"}
    assert _flake("overlay") == "unified-llm"
    assert "nix" in _flake("devShell")
    assert _flake("formatter")


def test_the_flakes_module_brings_its_package() -> None:
    assert _flake("module") == {"services": ["unified-llm"], "overlays": 1}


def test_the_package_is_the_project() -> None:
    package, project = _flake("package"), pyproject()["project"]
    assert package["version"] == project["version"]
    assert package["meta"]["description"] == project["description"]
    assert package["meta"]["license"] == project["license"]
    assert package["meta"]["mainProgram"] in project["scripts"]


def test_the_package_has_the_projects_dependencies() -> None:
    declared = [re.split("[<>=]", each)[0] for each in pyproject()["project"]["dependencies"]]
    assert [each["name"] for each in _flake("package")["dependencies"]] == declared


def test_the_package_is_made_from_what_the_build_reads() -> None:
    project = pyproject()
    needed = {
        "pyproject.toml",
        project["project"]["readme"],
        *project["project"]["license-files"],
        *project["tool"]["setuptools"]["packages"]["find"]["where"],
    }
    assert set(_flake("package")["src"]) == needed


def _llama(attribute: str) -> Any:
    packages = _flake(attribute)
    listed = packages["dependencies"] if attribute == "package" else packages
    (found,) = [each for each in listed if each["name"] == "llama-cpp-python"]
    return found


def test_llama_cpp_is_the_one_the_tests_ran_with() -> None:
    constraints = (REPOSITORY / ".ci" / "constraints.txt").read_text()
    llama = _llama("package")
    assert f"llama-cpp-python=={llama['version']}\n" in constraints
    assert f"llama-cpp-python=={llama['version']}" in pyproject()["project"]["dependencies"]
    assert re.fullmatch("sha256-[A-Za-z0-9+/]{43}=", llama["src"]["hash"])


def test_cuda_is_chosen_and_never_forced() -> None:
    assert _llama("package")["cudaSupport"] is False
    assert _llama("cuda")["cudaSupport"] is True


def test_the_virtual_machine_would_run_the_service() -> None:
    vm = _flake("vm")
    assert vm["refusals"] == []
    assert vm["specialisations"] == ["reloaded"]
    assert vm["settings"]["worker"]["engine"] == "fake"
    parse_settings(json.dumps(vm["settings"]).encode(), source="vm")
    compile(vm["testScript"], "testScript", "exec")


@pytest.mark.parametrize("file", _NIX_FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_nix_file_says_what_it_is_for(file: str) -> None:
    """Configurations for the tests say it by their name."""
    text = (REPOSITORY / file).read_text()
    is_configuration = {"configurations", "refused"} & set((REPOSITORY / file).parts)
    assert text.startswith(("# ", "{\n  description = ")) or is_configuration
