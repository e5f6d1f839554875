"""The settings file to Settings, or to every problem it has at once."""

import os
import stat
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from unified_llm.domain.errors import ConfigurationError, Problem
from unified_llm.domain.models import ADAPTER_NAME_PATTERN, MODEL_ID_PATTERN
from unified_llm.settings.describe import names_at, render_expected, schema_at
from unified_llm.settings.document import Document, KeyPath, parse_document, render_path
from unified_llm.settings.schema import Settings

DEFAULT_PATH: Final = Path("/etc/unified-llm/config.yaml")
PATH_VARIABLE: Final = "UNIFIED_LLM_CONFIG"

# A thousand models with every field take a fifth of it.
MAX_FILE_BYTES: Final = 1024 * 1024

# Errors whose text is written in the schema; all others get their words here.
_OWN_ERRORS: Final = frozenset(
    {
        "adapter_count",
        "adapter_id",
        "budget_name",
        "clock",
        "date",
        "relative_path",
        "long_socket_path",
        "model_clash",
        "provider_key",
        "provider_name",
        "provider_place",
        "provider_summary",
        "provider_url",
        "route_custom",
        "route_rule",
        "route_target",
        "route_weight",
    }
)


def find_settings(option: Path | None, environment: Mapping[str, str]) -> Path:
    """Which file to read: the option `--config`, else UNIFIED_LLM_CONFIG, else the default."""
    if option is not None:
        return option
    return Path(environment.get(PATH_VARIABLE) or DEFAULT_PATH)


def load_settings(path: Path) -> Settings:
    """The settings in the file at `path`; an empty file means the defaults.

    Raises ConfigurationError with all problems, those of reaching the file included.
    """
    return parse_settings(_read(path), source=str(path))


def parse_settings(content: bytes, *, source: str) -> Settings:
    """The settings in untrusted `content`. Raises ConfigurationError, naming `source`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(source, "is not text in UTF-8", line, expected="a YAML file") from error
    document = parse_document(text)
    try:
        settings = Settings.model_validate(_without_empty_sections(document))
    except ValidationError as error:
        found = (_problem(details, document) for details in error.errors(include_url=False))
        raise _all_problems(
            source, document, [problem for problem in found if problem is not None]
        ) from error
    if document.problems:
        raise _all_problems(source, document, [])
    return settings


def _read(path: Path) -> bytes:
    source = str(path)
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer, perhaps for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _refusal(source, "there is no such file") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _refusal(source, f"the file cannot be opened: {reason}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _refusal(source, "this is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _refusal(source, f"the file cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(content) > MAX_FILE_BYTES:
        raise _refusal(source, f"the file is larger than {MAX_FILE_BYTES} bytes")
    return content


def _refusal(
    source: str, message: str, line: int | None = None, expected: str = ""
) -> ConfigurationError:
    return ConfigurationError(source, (Problem("", line, message, expected),))


def _all_problems(source: str, document: Document, found: list[Problem]) -> ConfigurationError:
    in_order = sorted((*document.problems, *found), key=lambda problem: problem.line or 0)
    return ConfigurationError(source, tuple(in_order))


def _without_empty_sections(document: Document) -> dict[str, object]:
    """A section whose every line is commented out is null in YAML, and means its defaults."""
    return {name: value for name, value in document.values.items() if value is not None}


def _problem(details: ErrorDetails, document: Document) -> Problem | None:
    """One of pydantic's errors in our words; None if the document's own problem explains it."""
    path = tuple(str(part) for part in details["loc"])
    if any(path[:length] in document.broken for length in range(len(path) + 1)):
        return None
    key, line = render_path(path), _line_of(path, document)
    kind = details["type"]
    if kind == "missing":
        return Problem(key, line, "is missing", _expected(path))
    if kind == "extra_forbidden":
        return _unknown_setting(path, line)
    if kind == "model_id":
        return Problem(key, line, "is not a model id", f"an id that matches {MODEL_ID_PATTERN}")
    if kind == "adapter_name":
        expected = f"a name that matches {ADAPTER_NAME_PATTERN}"
        return Problem(key, line, "is not the name of an adapter", expected)
    if kind in _OWN_ERRORS:
        return Problem(key, line, details["msg"], _expected(path))
    return Problem(key, line, _render_found(details["input"]) + _neighbour(path), _expected(path))


def _line_of(path: KeyPath, document: Document) -> int | None:
    """The line of the key, or of the nearest mapping around a key that is not there."""
    for length in range(len(path), 0, -1):
        if (line := document.lines.get(path[:length])) is not None:
            return line
    return None


def _expected(path: KeyPath) -> str:
    schema = schema_at(path)
    return render_expected(schema) if schema else ""


def _unknown_setting(path: KeyPath, line: int | None) -> Problem:
    known = names_at(path[:-1])
    neighbour = _neighbour(path)
    expected = "" if neighbour else f"one of {', '.join(known)}"
    return Problem(render_path(path), line, f"is not a setting{neighbour}", expected)


def _neighbour(path: KeyPath) -> str:
    """`; did you mean …?` when the last name of `path` is close to that of a setting."""
    name, known = path[-1], names_at(path[:-1])
    close = [] if name in known else get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _render_found(value: object) -> str:
    if isinstance(value, str):
        return f"is the text {value[:60]!r}{'…' if len(value) > 60 else ''}"
    if isinstance(value, dict | list):
        return "is a mapping" if isinstance(value, dict) else "is a list"
    return f"is {_SPELLED.get(repr(value), repr(value)[:60])}"


_SPELLED: Final = {"None": "null", "True": "true", "False": "false"}
