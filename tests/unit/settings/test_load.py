"""settings.load."""

import os
import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unified_llm.domain.errors import ConfigurationError, Problem
from unified_llm.settings.describe import all_settings
from unified_llm.settings.load import (
    DEFAULT_PATH,
    MAX_FILE_BYTES,
    find_settings,
    load_settings,
    parse_settings,
)
from unified_llm.settings.schema import Settings

EXAMPLE = Path(__file__).parents[3] / "docs" / "reference" / "config.example.yaml"


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigurationError) as caught:
        parse_settings(text.encode(), source="config.yaml")
    return caught.value.problems


def problem_of(text: str) -> str:
    (problem,) = problems_of(text)
    return str(problem)


def test_the_example_is_right() -> None:
    found = load_settings(EXAMPLE)
    assert set(found.models.configured) == {"smollm2", "qwen/coder"}
    assert found.socket.mode == "0660"


def test_json_is_read_too() -> None:
    found = parse_settings(b'{"models": {"a": {"path": "/a"}}, "log": {}}', source="x")
    assert list(found.models.configured) == ["a"]


@pytest.mark.parametrize("text", ["", "# nothing", "log:\n", "models:\nscheduler: {}\n"])
def test_empty_files_and_sections_mean_the_defaults(text: str) -> None:
    assert parse_settings(text.encode(), source="x") == Settings()


def test_all_problems_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = """\
models:
  tiny:
    path: tiny.gguf
    slots: 0
    theads: 4
  other: {}
scheduler:
  queue_limit: "64"
  queue_limit: 3
sockt: 1
log: {level: loud}
"""
    assert [str(problem) for problem in problems_of(text)] == [
        "line 3: models.tiny.path: tiny.gguf is not absolute (expected absolute path)",
        "line 4: models.tiny.slots: is 0 "
        "(expected whole number of conversations from 1 to 64 or null)",
        "line 5: models.tiny.theads: is not a setting; did you mean 'threads'?",
        "line 6: models.other.path: is missing (expected absolute path)",
        "line 8: scheduler.queue_limit: is the text '64' "
        "(expected whole number of requests from 1 to 100000)",
        "line 9: scheduler.queue_limit: is given twice, first on line 8",
        "line 10: sockt: is not a setting; did you mean 'socket'?",
        "line 11: log.level: is the text 'loud' (expected debug or info or warning or error)",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("socket: {mode: 0660}", 'is 432 (expected four octal digits in quotes, such as "0660")'),
        ("socket: {mode: '660'}", "is the text '660' (expected four octal digits"),
        ("socket: {path: /" + "s" * 120 + "}", "the path has 121 bytes, and the kernel allows 107"),
        ("socket: {group: ''}", "is the text '' (expected text of 1 to 32 characters or null)"),
        ("requests: {total_seconds: .inf}", "is inf (expected number of seconds above 0, at most"),
        ("requests: {total_seconds: .nan}", "is nan (expected"),
        ("requests: {total_seconds: 0}", "is 0 (expected"),
        ("defaults: {slots: true}", "is true (expected"),
        ("defaults: {slots: 4.0}", "is 4.0 (expected whole number"),
        (
            "defaults: {slots: null}",
            "is null (expected whole number of conversations from 1 to 64)",
        ),
        ("dbus: {enabled: 1}", "is 1 (expected true or false)"),
        ("memory: {ram_budget_bytes: 5}", "whole number of bytes from 67108864 to"),
        ("worker: [a]", "worker: is a list (expected settings, as `name: value` lines)"),
        ("models: {directry: /x}", "is the text '/x'; did you mean 'directory'?"),
        ("models: {'-a': {path: /x}}", "is not a model id"),
        ("models: {directory: x}", "x is not absolute (expected absolute path or null)"),
        ("models: {a: {path: 3}}", "models.a.path: is 3 (expected absolute path)"),
        (
            "xyzzy: 1",
            "xyzzy: is not a setting (expected one of models, defaults, downloads, memory,",
        ),
    ],
)
def test_a_problem_says_what_is_there_and_what_should_be(text: str, said: str) -> None:
    problem = problem_of(text)
    assert said in problem
    assert problem.startswith("line 1: ")


def test_a_missing_setting_is_reported_at_its_section() -> None:
    (problem,) = problems_of("log: {}\nmodels:\n  a:\n    slots: 1\n")
    assert (problem.key, problem.line) == ("models.a.path", 3)


def test_bytes_that_are_no_text_are_refused_with_their_line() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_settings(b"log: {}\n# \xff\n", source="x")
    assert [problem.line for problem in caught.value.problems] == [2]


def refusal_of(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    assert caught.value.source == str(path)
    return str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    large = tmp_path / "large"
    large.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "no such file" in refusal_of(tmp_path / "missing")
    assert "not a regular file" in refusal_of(tmp_path)
    assert "not a regular file" in refusal_of(fifo)
    assert "not a regular file" in refusal_of(Path("/dev/zero"))
    assert f"larger than {MAX_FILE_BYTES} bytes" in refusal_of(large)
    assert "cannot be opened" in refusal_of(loop)
    assert "cannot be opened" in refusal_of(Path("/a\0b"))


def test_the_largest_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"#" * MAX_FILE_BYTES)
    assert load_settings(path) == Settings()


def test_the_option_beats_the_environment_beats_the_default() -> None:
    environment = {"UNIFIED_LLM_CONFIG": "/env.yaml"}
    assert find_settings(Path("/option.yaml"), environment) == Path("/option.yaml")
    assert find_settings(None, environment) == Path("/env.yaml")
    assert find_settings(None, {"UNIFIED_LLM_CONFIG": ""}) == DEFAULT_PATH
    assert find_settings(None, {}) == Path("/etc/unified-llm/config.yaml")


@settings(deadline=None)
@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbflog: {}")
def test_any_bytes_give_settings_or_a_configuration_error(content: bytes) -> None:
    _is_answered(content)


_NAMES = sorted({name for path, _ in all_settings() for name in path} | {"a", "x", "<<"})
_SCALARS = ["1", "0", "-1", "/x", "x", "'1'", "1e999", ".nan", "null", "true", "[]", "{}", "", "*a"]
_lines = st.builds(
    lambda indent, name, value: f"{'  ' * indent}{name}: {value}",
    st.integers(0, 3),
    st.sampled_from(_NAMES),
    st.sampled_from(_SCALARS) | st.text(string.printable, max_size=5),
)


@settings(deadline=None)
@given(st.lists(_lines, max_size=12))
def test_anything_like_a_settings_file_gives_settings_or_a_configuration_error(
    lines: list[str],
) -> None:
    _is_answered("\n".join(lines).encode())


def _is_answered(content: bytes) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        assert isinstance(parse_settings(content, source="x"), Settings)
    except ConfigurationError as error:
        problems = error.problems
        assert problems, "an error without a problem"
    for problem in problems:
        assert "pydantic" not in str(problem)
        assert "Input should" not in str(problem)


_WRONG = {
    "slots": "0",
    "context_tokens": "many",
    "keep_alive_seconds": "-1",
    "pinned": "3",
    "preload": "3",
    "path": "relative",
}


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sets(st.sampled_from(sorted(_WRONG))), st.booleans()),
        max_size=5,
    )
)
def test_every_problem_has_the_line_of_its_key(
    models: list[tuple[int, set[str], bool]],
) -> None:
    lines, expected = ["models:"], set()
    for number, (remarks, wrong, is_flow) in enumerate(models):
        lines += ["  # a remark"] * remarks
        values = {"path": "/right"} | {name: _WRONG[name] for name in sorted(wrong)}
        pairs = [f"{name}: {value}" for name, value in values.items()]
        lines.append(f"  m{number}:" + (f" {{{', '.join(pairs)}}}" if is_flow else ""))
        start = len(lines)
        lines += [] if is_flow else [f"    {pair}" for pair in pairs]
        for place, name in enumerate(values):
            if name in wrong:
                line = start if is_flow else start + 1 + place
                expected.add((f"models.m{number}.{name}", line))
    text = "\n".join(lines)
    found = {(p.key, p.line) for p in problems_of(text)} if expected else set()
    assert found == expected
