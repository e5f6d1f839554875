"""Turns a conversation into a prompt by the model's chat template, keeping text and markup apart.

A chat template is code from a model file, so it runs in jinja2's immutable sandbox, only in the
worker, and under a deadline. It never sees what people wrote: each text is replaced by a random
word, and the words are found again in the output (`placeholders`). What lies between them is
markup, where special tokens are meant; what takes their place is text, where they are not
(`prompt`).

What follows from this: a template that trims content is noticed by the unusual spaces around the
word, and the content is trimmed in the same way. A template that drops a message or changes its
text otherwise loses the word, and the request is refused. A template that looks into the text,
such as for a `</think>`, finds nothing there.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from types import FrameType
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from unified_llm.domain.chat import Message, Role, Tool
from unified_llm.domain.errors import InvalidRequest, ModelFailedToLoad
from unified_llm.domain.units import Instant, Seconds
from unified_llm.grammar.calls import CallForm
from unified_llm.worker.call_probe import find_call_form
from unified_llm.worker.placeholders import Part, Placeholders
from unified_llm.worker.thinking import Thinking, tags_of
from unified_llm.worker.turns import Turn, tools_of, turns_of

MAX_TEMPLATE_BYTES: Final = 256 * 1024
RENDER_DEADLINE: Final = Seconds(2.0)
"""A template renders in milliseconds; the sandbox alone does not stop nested loops."""

CHATML: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""For models that carry no template of their own."""

_FILE_NAME: Final = "chat template"
_MAX_REASON: Final = 300
_MAX_PRODUCT: Final = 10**6  # as a number, or as the length of a repeated text


class _TemplateRefused(jinja2.TemplateError):
    """`raise_exception` was called by the template."""


class _TooSlow(BaseException):
    """Not an Exception, so that nothing on the way out takes it for an error of the template."""


class ChatTemplate:
    """A compiled chat template.

    source: jinja2. bos, eos: texts of the model's tokens. draw_word: a new random word of letters
    and digits at each call. now: the time the template may show. elapsed: a monotonic clock.
    Raises ModelFailedToLoad if the source is too large or not jinja2.
    """

    def __init__(
        self,
        source: str,
        *,
        bos: str,
        eos: str,
        draw_word: Callable[[], str],
        now: Callable[[], datetime],
        elapsed: Callable[[], Instant],
    ) -> None:
        size = len(source.encode())
        if size > MAX_TEMPLATE_BYTES:
            raise ModelFailedToLoad(
                f"The model's chat template has {size} bytes; the limit is {MAX_TEMPLATE_BYTES}."
            )
        self._draw_word = draw_word
        self._elapsed = elapsed
        self._constants = {
            "bos_token": bos,
            "eos_token": eos,
            "documents": None,
            "raise_exception": _raise_exception,
            "strftime_now": lambda pattern: now().strftime(pattern),
        }
        try:
            self._template = _compile(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise ModelFailedToLoad(
                f"The model's chat template is broken: {_shorten(error)}."
            ) from error
        self._source = source
        self._tags = tags = tags_of(source)
        self._thinking = Thinking(tags, self._opens(tags.opening)) if tags else None

    def _opens(self, tag: str) -> bool:
        """Whether a prompt ends with `tag`, so that the answer begins with thoughts."""
        try:
            parts = self.render([Message(Role.USER, "?")])
        except InvalidRequest:
            return False
        return bool(parts) and parts[-1].text.rstrip().endswith(tag)

    @property
    def thinking(self) -> Thinking | None:
        """How the model thinks, as far as the template shows it."""
        return self._thinking

    @cached_property
    def call_form(self) -> CallForm | None:
        """How the model writes calls of tools; None if its template takes no tools."""
        # What does not name them cannot take them, and need not be tried.
        return find_call_form(self._run, self._tags) if "tools" in self._source else None

    def render(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> tuple[Part, ...]:
        """The prompt up to where the assistant begins to speak. Raises InvalidRequest."""
        words = Placeholders(self._draw_word())
        turns = turns_of(messages, words)
        offered = tools_of(tools, words)
        return words.split(self._run(turns, offered, True))

    def _run(
        self, turns: Sequence[Turn], tools: Sequence[Turn], add_generation_prompt: bool
    ) -> str:
        try:
            with _deadline(self._elapsed, RENDER_DEADLINE):
                return self._template.render(
                    messages=turns,
                    tools=tools or None,
                    add_generation_prompt=add_generation_prompt,
                    **self._constants,
                )
        except _TooSlow as error:
            raise InvalidRequest(
                f"The model's chat template ran for more than {RENDER_DEADLINE:.0f} seconds.",
                hint="Use another model, or one whose template is sound.",
            ) from error
        except Exception as error:
            # A template is foreign code: whatever it raises is about this request.
            raise InvalidRequest(
                f"The model's chat template refuses the messages: {_shorten(error)}.",
                hint="Many templates want user and assistant to alternate, starting with user.",
                parameter="messages",
            ) from error


class _GenerationBlock(Extension):
    """`{% generation %}` marks what a model is trained on (transformers); it changes no output."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as a plain class attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Refuses the two operators by which one line can compute for hours or fill all memory.

    The deadline looks between lines only. Interception also keeps jinja2 from folding these when
    it compiles.
    """

    intercepted_binops = frozenset({"**", "*"})

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        if operator == "**" or abs(_extent(left) * _extent(right)) > _MAX_PRODUCT:
            raise _TemplateRefused(f"it may not use {operator} on that much")
        return super().call_binop(context, operator, left, right)


def _extent(operand: Any) -> int | float:
    return operand if isinstance(operand, int | float) else len(operand)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _GenerationBlock],
    )
    environment.filters["tojson"] = _tojson
    return environment


def _compile(source: str) -> jinja2.Template:
    """The template under a file name of ours, by which the deadline knows its code."""
    environment = _environment()
    code = environment.compile(source, filename=_FILE_NAME)
    return jinja2.Template.from_code(environment, code, environment.make_globals(None))


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: jinja2's own escapes for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: object) -> NoReturn:
    raise _TemplateRefused(str(message))


def _shorten(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:_MAX_REASON].rstrip(".")


@contextmanager
def _deadline(elapsed: Callable[[], Instant], limit: Seconds) -> Iterator[None]:
    """Raise _TooSlow inside the template's own code once `limit` has passed.

    Tracing works on any thread and needs no signal; only the template's lines are traced.
    """
    end = elapsed() + limit

    def trace_lines(frame: FrameType, event: str, argument: object) -> Any:
        if elapsed() > end:
            raise _TooSlow
        return trace_lines

    def trace_calls(frame: FrameType, event: str, argument: object) -> Any:
        return trace_lines if frame.f_code.co_filename == _FILE_NAME else None

    before = sys.gettrace()
    sys.settrace(trace_calls)
    try:
        yield
    finally:
        sys.settrace(before)
