"""The evaluator of the tests does what nixpkgs' lib does; the table runs on both."""

from pathlib import Path
from typing import Any

import pytest

from tests.nix.evaluation import LIBRARIES, Refused, instantiate

# A module that declares one option `a` of a type, and definitions of it, to its value.
_VALUES: dict[str, tuple[str, str, Any]] = {
    "the strongest definition wins": (
        "types.int",
        "[ { a = mkDefault 1; } { a = 2; } { a = mkForce 3; } ]",
        3,
    ),
    "a default is the weakest": ("types.int // { }", "[ { a = mkOverride 1400 1; } ]", 1),
    "a condition removes a definition": (
        "types.int",
        "[ { a = mkIf false 1; } { a = mkIf true 2; } ]",
        2,
    ),
    "a condition on a whole module": ("types.int", "[ (mkIf false { a = 1; }) { a = 2; } ]", 2),
    "merged definitions are several": (
        "types.listOf types.int",
        "[ { a = mkMerge [ [ 1 ] [ 2 ] ]; } ]",
        [1, 2],
    ),
    "lists are joined, those of later modules first": (
        "types.listOf types.int",
        "[ { a = [ 1 ]; } { a = [ 2 ]; } ]",
        [2, 1],
    ),
    "an element under a false condition is gone": (
        "types.listOf types.int",
        "[ { a = [ 1 (mkIf false 2) ]; } ]",
        [1],
    ),
    "sets are merged leaf by leaf": (
        "types.attrsOf types.int",
        "[ { a.x = mkDefault 1; a.y = 1; } { a.x = 2; } ]",
        {"x": 2, "y": 1},
    ),
    "a member under a false condition is gone": (
        "types.attrsOf types.int",
        "[ { a.x = mkIf false 1; a.y = 1; } ]",
        {"y": 1},
    ),
    "null or a value": ("types.nullOr types.int", "[ { a = null; } ]", None),
    "either of two": ("types.either types.int types.str", '[ { a = "x"; } ]', "x"),
    "one of three": ("types.oneOf [ types.bool types.int types.str ]", "[ { a = 5; } ]", 5),
    "lines are joined": ("types.lines", '[ { a = "x"; } { a = "y"; } ]', "y\nx"),
    "a submodule knows its name": (
        "types.attrsOf (types.submodule ({ name, ... }: "
        "{ options.n = mkOption { default = name; }; }))",
        "[ { a.x = { }; } ]",
        {"x": {"n": "x"}},
    ),
    "a submodule is defined in parts": (
        "types.submodule { options.p = mkOption { type = types.int; default = 1; }; "
        "options.q = mkOption { type = types.int; }; }",
        "[ { a.q = 2; } { a = mkIf true { p = 3; }; } ]",
        {"p": 3, "q": 2},
    ),
    "free form lies beside typed leaves, at any depth": (
        "types.submodule { freeformType = types.attrsOf (types.attrsOf types.int); "
        "options.s.typed = mkOption { type = types.int; default = 1; }; }",
        "[ { a.s.free = mkDefault 2; a.t.free = 3; } { a.s.free = 4; } ]",
        {"s": {"typed": 1, "free": 4}, "t": {"free": 3}},
    ),
    "imports are modules too": (
        "types.listOf types.int",
        "[ { imports = [ { a = [ 1 ]; } ({ lib, ... }: { config.a = lib.mkForce [ 2 ]; }) ]; } ]",
        [2],
    ),
    "an option may depend on another": (
        "types.int",
        "[ ({ config, ... }: "
        "{ options.b = mkOption { default = 2; }; config.a = config.b + 1; }) ]",
        3,
    ),
}

_REFUSED = {
    "two definitions that disagree": (
        "types.int",
        "[ { a = 1; } { a = 2; } ]",
        "conflicting definition values",
    ),
    "no definition": ("types.int", "[ { a = mkIf false 1; } ]", "but has no value defined"),
    "a value of another type": ("types.int", '[ { a = "1"; } ]', "is not of type"),
    "a number out of range": ("types.ints.between 1 3", "[ { a = 4; } ]", "is not of type"),
    "a word not in the list": ('types.enum [ "x" ]', '[ { a = "y"; } ]', "is not of type"),
    "null beside a value": ("types.nullOr types.int", "[ { a = null; } { a = 1; } ]", "null"),
    "a store path where none may be": (
        "types.externalPath",
        '[ { a = "${builtins.storeDir}/00000000000000000000000000000000-x"; } ]',
        "is not of type",
    ),
    "an option that is not there": (
        "types.int",
        "[ { a = 1; b = 2; } ]",
        "The option `b' does not exist",
    ),
    "an option that is not there, under a condition": (
        "types.int",
        "[ (mkIf false { b = 2; }) { a = 1; } ]",
        "The option `b' does not exist",
    ),
    "a misplaced attribute": (
        "types.int",
        "[ { config.a = 1; a = 1; } ]",
        "unsupported attribute `a'",
    ),
    "an option declared twice": (
        "types.int",
        "[ { options.a = mkOption { type = types.str; }; config.a = 1; } ]",
        "already declared",
    ),
}


def _value(library: Path, kind: str, definitions: str) -> Any:
    expression = f"""
      with import {library};
      (evalModules {{
        modules = [ {{ options.a = mkOption {{ type = {kind}; }}; }} ] ++ {definitions};
      }}).config.a
    """
    return instantiate("--expr", expression)


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
@pytest.mark.parametrize("case", _VALUES)
def test_definitions_amount_to_a_value(case: str, library: Path) -> None:
    kind, definitions, expected = _VALUES[case]
    assert _value(library, kind, definitions) == expected


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
@pytest.mark.parametrize("case", _REFUSED)
def test_wrong_definitions_are_refused(case: str, library: Path) -> None:
    kind, definitions, words = _REFUSED[case]
    with pytest.raises(Refused) as refusal:
        _value(library, kind, definitions)
    assert words in str(refusal.value)


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
def test_a_renamed_option_still_works_and_says_its_new_name(library: Path) -> None:
    expression = f"""
      with import {library};
      let config = (evalModules {{
        modules = [
          (mkRenamedOptionModule [ "old" "name" ] [ "new" ])
          {{
            options.new = mkOption {{ type = types.int; }};
            options.warnings = mkOption {{ type = types.listOf types.str; default = [ ]; }};
            config.old.name = 5;
          }}
        ];
      }}).config;
      in {{ inherit (config) new warnings; }}
    """
    found = instantiate("--expr", expression)
    assert found["new"] == 5
    assert len(found["warnings"]) == 1
    assert "`old.name'" in found["warnings"][0]
    assert "renamed to `new'" in found["warnings"][0]
