"""What the command's exit status says; docs/reference/cli.md repeats this table."""

from typing import Final

from unified_llm.domain import errors

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
REFUSED: Final = 4
NOT_PERMITTED: Final = 5
UNAVAILABLE: Final = 6
BAD_CONFIGURATION: Final = 78  # EX_CONFIG of sysexits.h
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells do

MEANINGS: Final = {
    DONE: "done",
    FAILED: "something went wrong that is no fault of the request; a bug, if it stays",
    USAGE: "the command line is wrong",
    UNREACHABLE: "the daemon does not answer",
    REFUSED: "the request is wrong: unknown model, bad value, too large",
    NOT_PERMITTED: "this user may not do that",
    UNAVAILABLE: "not possible now: no room, queue full, the worker died; trying later may help",
    BAD_CONFIGURATION: "the configuration is wrong",
    INTERRUPTED: "interrupted from the keyboard",
}

_BY_CLASS: Final[tuple[tuple[type[errors.UnifiedLlmError], int], ...]] = (
    (errors.NotPermitted, NOT_PERMITTED),
    (errors.LocalOnly, NOT_PERMITTED),
    (errors.AuthenticationRequired, NOT_PERMITTED),
    (errors.AuthenticationDismissed, NOT_PERMITTED),
    (errors.RateLimited, UNAVAILABLE),
    (errors.RequestError, REFUSED),
    (errors.UnavailableError, UNAVAILABLE),
    (errors.ConfigurationError, BAD_CONFIGURATION),
    (errors.InternalError, FAILED),
)


def exit_code(error: errors.UnifiedLlmError) -> int:
    """The status that tells a script what kind of failure `error` is."""
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    raise TypeError(f"{type(error).__name__} has no exit code")
