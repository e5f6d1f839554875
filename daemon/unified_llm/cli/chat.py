"""`unified-llm chat`: a conversation at the terminal, or one question from a script."""

import sys
from typing import Annotated, Final

import typer

from unified_llm.cli.client import Daemon
from unified_llm.cli.render import print_json, render_safe
from unified_llm.cli.session import AsJson, reporting
from unified_llm.domain.chat import Finished, Message, Role, TextDelta
from unified_llm.domain.errors import InvalidRequest, TooLarge, UnifiedLlmError, UnknownModel

# The largest body any daemon can be told to take; more need not be read to be refused.
_MAX_QUESTION_BYTES: Final = 256 * 1024 * 1024

_HELP = "Type a message. /new forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops."


def chat(
    prompt: Annotated[
        str | None,
        typer.Argument(help="A single question; without it, standard input or a conversation."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model id; not needed if there is one.")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="What the model shall be.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of an answer, 1 or more.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 (always the likeliest word) to 2.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="For the same answer again.")] = None,
    local_only: Annotated[
        bool, typer.Option("--local-only", help="Ask no model of a provider, whatever happens.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Talk to a model: interactively, with an argument, or with text on standard input."""
    wished = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    options: dict[str, object] = {
        name: value for name, value in wished.items() if value is not None
    }
    if local_only:
        options["x_unified_llm"] = {"local_only": True}
    with reporting(as_json), Daemon() as daemon:
        conversation = _Conversation(
            daemon, _only_model(daemon) if model is None else model, system, options
        )
        if prompt is None and not as_json and sys.stdin is not None and sys.stdin.isatty():
            conversation.converse()
            return
        conversation.answer_once(_question(prompt), as_json)


def _question(prompt: str | None) -> str:
    if prompt is not None:
        return prompt
    if sys.stdin is None:
        raise InvalidRequest("There is no question, and standard input is closed.")
    raw = sys.stdin.buffer.read(_MAX_QUESTION_BYTES + 1)
    if len(raw) > _MAX_QUESTION_BYTES:
        raise TooLarge(f"Standard input has more than {_MAX_QUESTION_BYTES} bytes.")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"Standard input is not UTF-8 at byte {error.start}.", hint="Convert it first."
        ) from error


def _only_model(daemon: Daemon) -> str:
    others = ("route", "adapter")
    names = [
        str(found["id"])
        for found in daemon.models()
        if found["x_unified_llm"]["source"] not in others
    ]
    if len(names) == 1:
        return names[0]
    known = ", ".join(names) or "none; see `models.directory` in the configuration"
    raise UnknownModel(f"There are {len(names)} models: name one with --model.", hint=known)


class _Conversation:
    """What has been said so far, and how to go on."""

    def __init__(
        self, daemon: Daemon, model: str, system: str | None, options: dict[str, object]
    ) -> None:
        self._daemon = daemon
        self._model = model
        self._system = [Message(Role.SYSTEM, system)] if system is not None else []
        self._options = options
        self._history: list[Message] = []

    def answer_once(self, question: str, as_json: bool) -> None:
        answer, end = self._ask(question, is_shown=not as_json)
        if as_json:
            print_json(
                {
                    "model": self._model,
                    "content": answer,
                    "finish_reason": end.reason.value,
                    "usage": end.usage
                    and {
                        "prompt_tokens": end.usage.prompt_tokens,
                        "completion_tokens": end.usage.completion_tokens,
                    },
                }
            )

    def converse(self) -> None:
        """Until the end of input. Ctrl-C stops an answer, not the conversation."""
        typer.echo(f"{self._model}. {_HELP}", err=True)
        while (line := _read_line()) is not None:
            match line.strip():
                case "":
                    continue
                case "/exit":
                    return
                case "/new":
                    self._history.clear()
                case question:
                    self._take_turn(question)

    def _take_turn(self, question: str) -> None:
        try:
            self._ask(question, is_shown=True)
        except KeyboardInterrupt:
            typer.echo("\n[stopped]", err=True)
        except UnifiedLlmError as error:
            typer.echo(f"unified-llm: {render_safe(str(error))}", err=True)

    def _ask(self, question: str, *, is_shown: bool) -> tuple[str, Finished]:
        """Ask, show the answer as it comes, and remember both when it is whole."""
        asked = Message(Role.USER, question)
        parts: list[str] = []
        end: Finished | None = None
        messages = [*self._system, *self._history, asked]
        with self._daemon.open_chat(self._model, messages, self._options) as events:
            for event in events:
                if isinstance(event, TextDelta):
                    parts.append(event.text)
                    if is_shown:
                        typer.echo(render_safe(event.text), nl=False)
                        sys.stdout.flush()
                elif isinstance(event, Finished):
                    end = event
        if end is None:
            raise TypeError("a stream of chat events ended without Finished")
        if is_shown:
            typer.echo()
        answer = "".join(parts)
        self._history += [asked, Message(Role.ASSISTANT, answer)]
        return answer, end


def _read_line() -> str | None:
    try:
        return input("> ")
    except EOFError:
        typer.echo()
        return None
    except KeyboardInterrupt:
        typer.echo()
        return ""
