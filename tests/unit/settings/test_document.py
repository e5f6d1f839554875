"""settings.document."""

import string
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_llm.settings.document import MAX_DEPTH, MAX_NODES, parse_document


def problems_of(text: str) -> list[tuple[str, int | None, str]]:
    return [(p.key, p.line, p.message) for p in parse_document(text).problems]


def test_values_have_the_types_of_yaml() -> None:
    document = parse_document(
        "a: 1\nb: 0x10\nc: 1.5\nd: true\ne: ~\nf: text\ng: '1'\nh: 2024-01-01\ni: [1, {j: k}]\n"
    )
    assert document.values == {
        "a": 1,
        "b": 16,
        "c": 1.5,
        "d": True,
        "e": None,
        "f": "text",
        "g": "1",
        "h": "2024-01-01",
        "i": [1, {"j": "k"}],
    }
    assert document.problems == ()


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "{}", "\ufeff"])
def test_an_empty_document_has_no_values(text: str) -> None:
    document = parse_document(text)
    assert (document.values, document.problems) == ({}, ())


def test_lines_are_those_an_editor_shows() -> None:
    text = "x: 'only YAML breaks \u2028 here'\na:\n  b: 1\n\n  c:\n    d: 'x\n      y'\ne: 2\n"
    lines = parse_document(text).lines
    assert lines == {
        ("x",): 1,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 5,
        ("a", "c", "d"): 6,
        ("e",): 8,
    }


def test_a_name_given_twice_keeps_its_first_value() -> None:
    document = parse_document("a: 1\nb: {c: 1, c: {d: [2]}}\na: {x: [1, 2]}\nz: 9\n")
    assert document.values == {"a": 1, "b": {"c": 1}, "z": 9}
    assert [(p.key, p.line, p.message) for p in document.problems] == [
        ("b.c", 2, "is given twice, first on line 2"),
        ("a", 3, "is given twice, first on line 1"),
    ]


@pytest.mark.parametrize(
    ("text", "key", "part"),
    [
        ("on: 1", "on", "'on' is true or false"),
        ("12: 1", "12", "'12' is a number"),
        ("~: 1", "~", "'~' is null"),
        ("? [a]\n: 1", "?", "a name is not text"),
        ("<<: {a: 1}", "<<", "merge keys"),
        ("a: *b", "a", "alias"),
        ("a: !secret b", "a", "tag '!secret'"),
        ("a: !!python/object/apply:os.system [ls]", "a", "tag"),
        ("a: !!binary aGk=", "a", "tag"),
        ('a: "\\0"', "a", "NUL"),
        ('a: "\\ud800"', "a", "surrogate"),
        ('"\\0": 1', "\\x00", "NUL"),
        ("a: !!int x", "a", "not a value of type int"),
        ("a: " + "9" * 5000, "a", "not a value of type int"),
        ("- a", "", "not a list of sections"),
        ("text", "", "not a list of sections"),
    ],
)
def test_what_could_be_understood_in_two_ways_is_a_problem(text: str, key: str, part: str) -> None:
    ((found_key, line, message),) = problems_of(text)
    assert (found_key, line) == (key, 1)
    assert part in message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: [", 2),
        ("a: 1\n\tb: 2", 2),
        ("a: 1\nb: 'x", 2),
        ("a: b: c", 1),
        ("a: 1\nb: \x01", 2),
        ('a: 1\nb: "\\UFFFFFFFF"', 2),
        ('a: 1\nb: "\\U00110000"', 2),
        ("a: 1\n---\nb: 2", 2),
        ("%YAML " + "9" * 5000 + ".1\n---\na: 1", 1),
    ],
)
def test_what_is_not_yaml_is_one_problem_with_its_line(text: str, line: int) -> None:
    document = parse_document(text)
    assert document.values == {}
    assert [problem.line for problem in document.problems] == [line]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[" * 100_000, f"more than {MAX_DEPTH} deep"),
        ("- " * 100_000, f"more than {MAX_DEPTH} deep"),
        ("{a: " * 100_000, f"more than {MAX_DEPTH} deep"),
        ("a: [" + "b," * MAX_NODES, f"more than {MAX_NODES}"),
    ],
)
@pytest.mark.slow
def test_a_bomb_is_refused(text: str, part: str) -> None:
    ((_, _, message),) = problems_of(text)
    assert part in message


def test_names_are_shown_without_their_control_characters() -> None:
    ((key, _, _),) = problems_of('"\\e[31m": *x')
    assert key == "\\x1b[31m"


names = st.text(string.ascii_letters, min_size=1, max_size=8).filter(
    lambda name: name.lower() not in {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
)
leaves = st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False) | names
trees = st.dictionaries(
    names, leaves | st.dictionaries(names, leaves | st.lists(leaves, max_size=3), max_size=4)
)


@settings(deadline=None)
@given(trees)
def test_what_pyyaml_writes_is_read_back(tree: dict[str, Any]) -> None:
    document = parse_document(yaml.safe_dump(tree))
    assert document.problems == ()
    assert document.values == tree


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(names, st.integers(0, 3), st.lists(names, unique=True)),
        unique_by=lambda section: section[0],
    )
)
def test_every_line_is_the_right_one(sections: list[tuple[str, int, list[str]]]) -> None:
    lines: list[str] = []
    expected: dict[tuple[str, ...], int] = {}
    for section, blank, members in sections:
        lines += ["", "# a remark", "   "][:blank]
        lines.append(f"{section}:")
        expected[(section,)] = len(lines)
        for member in members:
            lines.append(f"  {member}: 1")
            expected[(section, member)] = len(lines)
    assert parse_document("\n".join(lines)).lines == expected


@settings(deadline=None)
@given(st.text(alphabet="ab:-[]{}?,&*!|>'\"%@`# \n\t\\0x1~<=", max_size=60))
def test_any_text_is_answered_with_values_or_problems(text: str) -> None:
    document = parse_document(text)
    assert isinstance(document.values, dict)
    for problem in document.problems:
        assert problem.message
        assert problem.line is None or 1 <= problem.line <= text.count("\n") + 1
