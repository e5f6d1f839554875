"""`python -I -m unified_llm.worker --socket-fd N --engine llama|fake --parent-pid N ...`"""

import argparse
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from unified_llm.domain.profile import Purpose
from unified_llm.domain.units import Instant
from unified_llm.worker.confine import ConfineError, LayerMissingError, confine
from unified_llm.worker.engine_port import Engine, Rehearsal
from unified_llm.worker.kept_states import KeptStates
from unified_llm.worker.protocol import NotConfined, encode
from unified_llm.worker.session import ExitStatus, Session, exit_at_once


def main() -> NoReturn:
    """Confine the process, then serve the daemon at the other end of the socket."""
    arguments = _parse_arguments()
    # Ctrl-C in a terminal reaches the whole group; what it means is for the daemon to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        sandbox = confine(
            arguments.parent_pid,
            socket=arguments.socket_fd,
            models=arguments.keep_fd,
            states=arguments.states_fd,
            is_sandbox_required=arguments.sandbox == "required",
        )
        connection = socket.socket(fileno=arguments.socket_fd)
    except (OSError, ConfineError) as error:
        _give_up(arguments.socket_fd, error)
    states = None
    if arguments.states_fd is not None:
        states = KeptStates(socket.socket(fileno=arguments.states_fd), arguments.states_bytes)
    open_engine, rehearse, build = _import_engine(arguments.engine)
    session = Session(
        connection, lambda purpose: open_engine(purpose, states), _now, rehearse=rehearse
    )
    session.run(arguments.engine, build, sandbox)


def _now() -> Instant:
    return Instant(time.monotonic())


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="unified_llm.worker", description=main.__doc__)
    parser.add_argument("--socket-fd", type=int, required=True, help="connection to the daemon")
    parser.add_argument("--engine", choices=("llama", "fake"), required=True)
    parser.add_argument("--parent-pid", type=int, required=True, help="the daemon's process")
    parser.add_argument(
        "--keep-fd", type=int, action="append", default=[], help="descriptor of a model file"
    )
    parser.add_argument("--states-fd", type=int, help="connection for kept states")
    parser.add_argument("--states-bytes", type=int, default=0, help="size of the largest to keep")
    parser.add_argument(
        "--sandbox",
        choices=("required", "best-effort"),
        default="required",
        help="whether to run on a kernel without Landlock or seccomp",
    )
    return parser.parse_args()


def _give_up(descriptor: int, error: Exception) -> NoReturn:
    """Say why there is no worker: to the log, and where the operator can help, to the daemon."""
    sys.stderr.write(f"cannot confine the worker: {error}\n")
    if isinstance(error, LayerMissingError):
        with suppress(OSError), socket.socket(fileno=descriptor) as connection:
            connection.sendall(encode(NotConfined(layer=error.layer, reason=error.reason)))
    exit_at_once(ExitStatus.NOT_CONFINED)


_OpenEngine = Callable[[Purpose, KeptStates | None], Engine]


def _import_engine(name: str) -> tuple[_OpenEngine, Rehearsal, str]:
    """Import the engines asked for, which starts native code, only now that we are confined."""
    if name == "fake":
        from unified_llm.worker import fake_encoder, fake_engine

        return fake_encoder.open_engine, fake_engine.rehearse_fake, fake_engine.BUILD
    from unified_llm.worker import encoder, engine

    return encoder.open_engine, engine.rehearse_llama, engine.BUILD


if __name__ == "__main__":
    main()
