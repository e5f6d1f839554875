"""From a received method call to exactly one answer.

Rules:
1. A call that is refused by its header never has its arguments parsed.
2. What the standard interfaces answer from memory is answered at once; everything else runs as a
   task.
3. A private object does not exist for those who may not see it: they get the same refusal as for a
   path where nothing is.
4. Every call ends in one reply or one error, also when it is cancelled or when we have a bug; no
   text of an unexpected exception leaves the process.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, cast

from unified_llm.bus import faults
from unified_llm.bus.calls import Calls
from unified_llm.bus.connection import BusConnection
from unified_llm.bus.decoding import MAX_CALL_VALUES, Header
from unified_llm.bus.encoding import ALLOW_INTERACTIVE_AUTHORIZATION, NO_REPLY_EXPECTED
from unified_llm.bus.intake import MAX_WAITING_BYTES
from unified_llm.bus.interface import Argument, Interface, Method
from unified_llm.bus.names import (
    INTROSPECTABLE_INTERFACE,
    PEER_INTERFACE,
    PROPERTIES_INTERFACE,
)
from unified_llm.bus.objects import CallContext, LiveObject, ObjectTree
from unified_llm.bus.reading import MAX_BODY_BYTES, Incoming, Problem, close_all
from unified_llm.bus.standard import STANDARD, StandardAnswers, unknown_interface, unknown_property
from unified_llm.bus.values import Variant, from_body
from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import Cancelled, UnifiedLlmError
from unified_llm.domain.units import render_bytes

_CANCELLED: Final = Cancelled("The call was cancelled before it was done.")


class Dispatcher:
    """Answers every call that it is given, from the objects in `tree`."""

    def __init__(self, bus: BusConnection, tree: ObjectTree, calls: Calls) -> None:
        self._bus = bus
        self._tree = tree
        self._calls = calls
        self._standard = StandardAnswers(tree)

    def is_worth_reading(self, header: Header) -> bool:
        """Whether there is such a method, with such arguments."""
        if _is_idle_question(header):
            return False
        try:
            self._find_method(header)
        except faults.BusFault:
            return False
        return True

    def on_call(self, incoming: Incoming, caller: Caller) -> None:
        """Answer at once, or begin to."""
        try:
            self._answer(incoming, caller)
        except Exception as exc:  # noqa: BLE001 - logged and mapped by refuse
            self.refuse(incoming.header, exc)
            incoming.close_fds()

    def refuse(self, header: Header, error: BaseException) -> None:
        """Answer with an error."""
        if not isinstance(error, UnifiedLlmError | faults.BusFault):
            where = f"{header.interface}.{header.member}"
            error = faults.internal_fault(where, cast("Exception", error))
        self._bus.begin_error(header, *faults.describe(error))

    def _answer(self, incoming: Incoming, caller: Caller) -> None:
        header = incoming.header
        self._refuse_stranger(header.path, caller)
        method = self._find_method(header)
        is_standard = header.interface in STANDARD and not _is_set(header)
        if not is_standard:
            self._calls.ensure_room(caller)
        arguments = _Arguments(incoming, method)
        if is_standard:
            answer = self._standard.answer(
                header.path, header.interface, header.member, arguments.take(), caller
            )
            self._reply(header, method, answer)
        else:
            self._calls.begin(caller, self._run(header, arguments, caller), incoming.close_fds)

    async def _run(self, header: Header, arguments: "_Arguments", caller: Caller) -> None:
        try:
            result = await self._result(header, arguments, caller)
            self._reply(header, arguments.method, result)
        except asyncio.CancelledError:
            self.refuse(header, _CANCELLED)
            raise
        except Exception as exc:  # noqa: BLE001 - logged and mapped by refuse
            self.refuse(header, exc)

    async def _result(
        self, header: Header, arguments: "_Arguments", caller: Caller
    ) -> Sequence[object]:
        live = self._tree.get(header.path)
        if live is None:
            # It has gone since the call was looked at.
            raise _unknown_object(header.path)
        context = CallContext(
            caller,
            header.path,
            header.interface,
            header.member,
            bool(header.flags & ALLOW_INTERACTIVE_AUTHORIZATION),
        )
        if header.interface == PROPERTIES_INTERFACE:
            await _set_property(live, context, *arguments.take())
            return ()
        handler = live.interfaces[header.interface].methods[header.member]
        return await handler(context, *arguments.take()) or ()

    def _refuse_stranger(self, path: str, caller: Caller) -> None:
        live = self._tree.get(path)
        if live is not None and not live.exported.is_visible_to(caller):
            raise _unknown_object(path)

    def _find_method(self, header: Header) -> Method:
        interface = self._find_interface(header)
        method = interface.methods.get(header.member)
        if method is None:
            raise faults.BusFault(
                faults.UNKNOWN_METHOD, f"{interface.name} has no method {header.member[:100]!r}."
            )
        if header.signature != method.in_signature:
            raise faults.BusFault(
                faults.INVALID_ARGS,
                f"{method.name} takes {_render(method.inputs)}, not {header.signature!r}.",
            )
        return method

    def _find_interface(self, header: Header) -> Interface:
        path, name = header.path, header.interface
        live = self._tree.get(path)
        if live is None and not self._is_there_without_object(path, name):
            raise _unknown_object(path)
        standard = self._standard.interface_at(path, name)
        if standard is not None:
            return standard
        if live is None or name not in live.interfaces:
            raise unknown_interface(path, name)
        return live.interfaces[name].description

    def _is_there_without_object(self, path: str, interface: str) -> bool:
        if interface == INTROSPECTABLE_INTERFACE:
            return self._tree.leads_somewhere(path)
        return interface == PEER_INTERFACE

    def _reply(self, call: Header, method: Method, values: Sequence[object]) -> None:
        try:
            self._bus.begin_reply(call, method.out_signature, *values)
        finally:
            close_all(
                [
                    cast("int", value)
                    for argument, value in zip(method.outputs, values, strict=False)
                    if argument.signature == "h"
                ]
            )


class _Arguments:
    """What a call was given, read to the end. Raises BusFault if it can not be."""

    def __init__(self, incoming: Incoming, method: Method) -> None:
        self.method = method
        self._incoming = incoming
        body = incoming.parse()
        if body is None:
            raise _unreadable(incoming, method)
        declared = sum(argument.signature == "h" for argument in method.inputs)
        if len(incoming.fds) != declared:
            raise faults.BusFault(
                faults.INVALID_ARGS,
                f"{method.name} takes {declared} file descriptors, not {len(incoming.fds)}.",
            )
        try:
            self._values = from_body(method.in_signature, body, incoming.fds)
        except ValueError as exc:
            raise faults.BusFault(faults.INVALID_ARGS, f"{method.name}: {exc}.") from exc

    def take(self) -> tuple[object, ...]:
        """The values; the descriptors among them are the taker's from now on."""
        self._incoming.fds = []
        return self._values


def _is_set(header: Header) -> bool:
    return header.interface == PROPERTIES_INTERFACE and header.member == "Set"


def _is_idle_question(header: Header) -> bool:
    """Whether the call changes nothing and wants no reply."""
    return bool(
        header.flags & NO_REPLY_EXPECTED and header.interface in STANDARD and not _is_set(header)
    )


def _unreadable(incoming: Incoming, method: Method) -> faults.BusFault:
    match incoming.problem:
        case Problem.TOO_LARGE:
            return faults.BusFault(
                faults.LIMITS_EXCEEDED,
                f"The arguments of {method.name} have {render_bytes(incoming.header.body_bytes)}; "
                f"the limit is {render_bytes(MAX_BODY_BYTES)}. The HTTP socket takes more.",
            )
        case Problem.CROWDED:
            return faults.BusFault(
                faults.LIMITS_EXCEEDED,
                f"Your calls that wait for their turn have {render_bytes(MAX_WAITING_BYTES)} of "
                "arguments already. Wait until some of them are answered.",
            )
        case _:
            return faults.BusFault(
                faults.INVALID_ARGS,
                f"The arguments of {method.name} cannot be read, or are more than "
                f"{MAX_CALL_VALUES} values.",
            )


async def _set_property(live: LiveObject, context: CallContext, *arguments: object) -> None:
    interface, name, value = cast("tuple[str, str, Variant]", arguments)
    exported = live.interfaces.get(interface)
    if exported is None:
        raise unknown_interface(live.path, interface)
    found = exported.description.properties.get(name)
    if found is None:
        raise unknown_property(interface, name)
    if not found.is_writable:
        raise faults.BusFault(faults.PROPERTY_READ_ONLY, f"{interface}.{name} is read-only.")
    if value.signature != found.signature:
        raise faults.BusFault(
            faults.INVALID_ARGS,
            f"{interface}.{name} is {found.signature!r}, not {value.signature!r}.",
        )
    target = replace(context, interface=interface, member=name)
    await exported.setters[name](target, value.value)


def _unknown_object(path: str) -> faults.BusFault:
    return faults.BusFault(faults.UNKNOWN_OBJECT, f"There is no object at {path[:200]}.")


def _render(arguments: Sequence[Argument]) -> str:
    if not arguments:
        return "no arguments"
    return "(" + ", ".join(f"{found.signature} {found.name}" for found in arguments) + ")"
