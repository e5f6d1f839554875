"""The reference page of all NixOS options, made from their declarations.

`python -m tests.nix.options_page > docs/reference/nixos-options.md` writes it anew.
"""

import re
import sys
from collections.abc import Mapping
from typing import Any

from tests.nix.evaluation import options

_INTRODUCTION = """\
# NixOS options

<!-- Made by `python -m tests.nix.options_page > docs/reference/nixos-options.md`. -->

How to start: [deployment-nixos.md](../deployment-nixos.md). What can stand in `settings` besides
the options below: [settings.md](settings.md).
"""

_ROLE = re.compile(r"\{[a-z]+\}(?=`)")


def render_page() -> str:
    """The page, in Markdown."""
    return "\n".join([_INTRODUCTION, *(_render(option) for option in options())])


def _render(option: Mapping[str, Any]) -> str:
    lines = [f"## `{option['name']}`", "", _plain(option["description"]), ""]
    lines.append(f"- Type: {option['type']}")
    if "default" in option:
        lines.append(f"- Default: {_render_value(option['default'])}")
    if "example" in option:
        lines.append(_render_example(option["example"]["text"]))
    return "\n".join(lines) + "\n"


def _plain(description: str) -> str:
    """NixOS's Markdown without its roles: {option}`x` is `x` elsewhere."""
    return _ROLE.sub("", description).strip()


def _render_value(value: Mapping[str, str]) -> str:
    return value["text"] if value["_type"] == "literalMD" else f"`{value['text']}`"


def _render_example(text: str) -> str:
    if "\n" not in text.strip():
        return f"- Example: `{text.strip()}`"
    return "\n".join(["- Example:", "", "```nix", text.strip(), "```"])


if __name__ == "__main__":
    sys.stdout.write(render_page())
