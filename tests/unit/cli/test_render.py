"""A model's answer can not take over the terminal."""

import unicodedata

import pytest

from unified_llm.cli.render import print_fields, print_table, render_safe

BIDI_CONTROLS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def test_no_character_of_the_first_plane_controls_anything() -> None:
    for code in range(0x10000):
        shown = render_safe(chr(code))
        is_control = unicodedata.category(chr(code)) == "Cc" or code in BIDI_CONTROLS
        if is_control and chr(code) not in "\n\t":
            assert shown.isprintable()
            assert shown.startswith("\\")
        else:
            assert shown == chr(code)


def test_cells_are_escaped_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["MODEL", "STATE"], [["a\x1b[2J", "ready"], ["b", "failed"]])
    assert capsys.readouterr().out.splitlines() == [
        "MODEL     STATE",
        "a\\x1b[2J  ready",
        "b         failed",
    ]


def test_fields_are_lined_up_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields([("version", "1"), ("up", "2 s")])
    assert capsys.readouterr().out == "version  1\n     up  2 s\n"
