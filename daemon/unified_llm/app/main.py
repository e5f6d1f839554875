"""The daemon's command line: `unified-llmd`."""

import argparse
import asyncio
import gc
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final, NoReturn

from unified_llm.app.daemon import Start, run_daemon
from unified_llm.app.logs import configure_logs
from unified_llm.app.strategies import load_checked
from unified_llm.bus.faults import BusFault
from unified_llm.domain.errors import ConfigurationError
from unified_llm.settings.load import find_settings

EX_FAILED: Final = 1
EX_CONFIG: Final = 78  # sysexits.h; the unit does not restart after it

# A request makes some thousands of objects, and few of them are garbage that only the collector
# finds. With Python's 700 it was looked for several times in each, and took a tenth of its time.
_NEW_OBJECTS_TO_COLLECT_AT: Final = 10_000


def main() -> NoReturn:
    """Entry point. Exit status: 0 stopped, 1 failed, 2 wrong command line, 78 bad configuration."""
    options = _parser().parse_args()
    if options.check_config is not None:
        sys.exit(_check(options.check_config, as_json=options.json))
    sys.exit(_run(find_settings(options.config, os.environ)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unified-llmd", description="The daemon that owns this machine's language models."
    )
    parser.add_argument("--version", action="version", version=version("unified-llm"))
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings in YAML (default: $UNIFIED_LLM_CONFIG, else /etc/unified-llm/config.yaml)",
    )
    parser.add_argument(
        "--check-config",
        type=Path,
        metavar="FILE",
        help="report every problem of FILE and exit with 0 or 78, without starting anything",
    )
    parser.add_argument("--json", action="store_true", help="with --check-config: report as JSON")
    return parser


def _check(file: Path, *, as_json: bool) -> int:
    try:
        load_checked(file)
    except ConfigurationError as error:
        if as_json:
            problems = [
                {
                    "key": problem.key,
                    "line": problem.line,
                    "message": problem.message,
                    "expected": problem.expected,
                }
                for problem in error.problems
            ]
            print(json.dumps({"file": str(file), "valid": False, "problems": problems}))
        else:
            print(error.message, file=sys.stderr)
        return EX_CONFIG
    if as_json:
        print(json.dumps({"file": str(file), "valid": True, "problems": []}))
    else:
        print(f"{file}: no problems")
    return 0


def _run(file: Path) -> int:
    environment = dict(os.environ)
    gc.set_threshold(_NEW_OBJECTS_TO_COLLECT_AT)
    try:
        settings, strategies = load_checked(file)
        device = configure_logs(settings.log.level, environment)
        start = Start(settings, file, device, environment, version("unified-llm"), strategies)
        return asyncio.run(run_daemon(start))
    except* ConfigurationError as wrong:
        _tell(wrong)
        status = EX_CONFIG
    except* BusFault as lost:
        _tell(lost)
        status = EX_FAILED
    return status


def _tell(group: BaseExceptionGroup[BaseException]) -> None:
    """Print each error in the group, however deep the task groups nested it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            _tell(error)
        else:
            print(f"unified-llmd: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
