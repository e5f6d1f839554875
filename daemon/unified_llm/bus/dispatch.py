"""From a received method call to exactly one answer.

Rules:
1. A call that is refused by its header never has its arguments parsed. One that only asks, and
   wants no reply, is not answered at all: the bus limits the calls that wait for a reply and no
   others, and a flood of these kept everybody waiting after the flooder had left.
2. What the standard interfaces answer from memory is answered at once; everything else runs as a
   task, after the caller has been identified.
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
from unified_llm.bus.credentials import Credentials
from unified_llm.bus.decoding import MAX_CALL_VALUES, Header
from unified_llm.bus.encoding import ALLOW_INTERACTIVE_AUTHORIZATION, NO_REPLY_EXPECTED
from unified_llm.bus.interface import Argument, Interface, Method
from unified_llm.bus.names import (
    INTROSPECTABLE_INTERFACE,
    OBJECT_MANAGER_INTERFACE,
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
_SET: Final = (PROPERTIES_INTERFACE, "Set")
# What these tell depends on who asks, as soon as some objects are private.
_LISTINGS: Final = frozenset({INTROSPECTABLE_INTERFACE, OBJECT_MANAGER_INTERFACE})


class Dispatcher:
    """Answers every call that arrives on a connection, from the objects in `tree`."""

    def __init__(
        self, bus: BusConnection, tree: ObjectTree, calls: Calls, credentials: Credentials
    ) -> None:
        self._bus = bus
        self._tree = tree
        self._calls = calls
        self._credentials = credentials
        self._standard = StandardAnswers(tree)

    def wants_body(self, header: Header) -> bool:
        """Whether there is such a method, with such arguments."""
        if _is_idle_question(header):
            return False
        try:
            self._find_method(header)
        except faults.BusFault:
            return False
        return True

    def on_call(self, incoming: Incoming) -> None:
        """Answer at once, or begin to."""
        header = incoming.header
        if _is_idle_question(header):
            incoming.close_fds()
            return
        try:
            if self._is_private(header.path):
                self._begin(incoming)
                return
            method = self._find_method(header)
            _refuse_unreadable(incoming, method)
            if self._needs_caller(header):
                self._begin(incoming)
                return
            self._reply(header, method, self._answer_standard(incoming, method, None))
        except Exception as exc:  # noqa: BLE001 - logged and mapped by _refuse
            self._refuse(header, exc)
        incoming.close_fds()

    def _begin(self, incoming: Incoming) -> None:
        sender = incoming.header.sender
        self._calls.refuse_flood(sender)
        self._calls.begin(sender, self._answer(incoming), incoming.close_fds)

    async def _answer(self, incoming: Incoming) -> None:
        header = incoming.header
        try:
            caller = await self._credentials.caller_of(header.sender)
            with self._calls.counted(caller):
                self._refuse_stranger(header.path, caller)
                # Once more: objects may have come and gone since the call arrived.
                method = self._find_method(header)
                _refuse_unreadable(incoming, method)
                result = await self._result(incoming, method, caller)
            self._reply(header, method, result)
        except asyncio.CancelledError:
            self._refuse(header, _CANCELLED)
            raise
        except Exception as exc:  # noqa: BLE001 - logged and mapped by _refuse
            self._refuse(header, exc)

    async def _result(self, incoming: Incoming, method: Method, caller: Caller) -> Sequence[object]:
        header = incoming.header
        if header.interface in STANDARD and (header.interface, header.member) != _SET:
            return self._answer_standard(incoming, method, caller)
        live = self._tree.get(header.path)
        if live is None:
            raise _unknown_object(header.path)
        context = CallContext(
            caller,
            header.path,
            header.interface,
            header.member,
            bool(header.flags & ALLOW_INTERACTIVE_AUTHORIZATION),
        )
        arguments = _take_arguments(incoming, method)
        if header.interface == PROPERTIES_INTERFACE:
            await _set_property(live, context, *arguments)
            return ()
        handler = live.interfaces[header.interface].methods[header.member]
        return await handler(context, *arguments) or ()

    def _answer_standard(
        self, incoming: Incoming, method: Method, caller: Caller | None
    ) -> tuple[object, ...]:
        header = incoming.header
        arguments = _take_arguments(incoming, method)
        return self._standard.answer(
            header.path, header.interface, header.member, arguments, caller
        )

    def _needs_caller(self, header: Header) -> bool:
        if header.interface in _LISTINGS:
            return self._tree.has_private
        return header.interface not in STANDARD or (header.interface, header.member) == _SET

    def _is_private(self, path: str) -> bool:
        live = self._tree.get(path)
        return live is not None and live.exported.owner is not None

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

    def _refuse(self, call: Header, error: BaseException) -> None:
        if not isinstance(error, UnifiedLlmError | faults.BusFault):
            where = f"{call.interface}.{call.member}"
            error = faults.internal_fault(where, cast("Exception", error))
        self._bus.begin_error(call, *faults.describe(error))


def _is_idle_question(header: Header) -> bool:
    """Whether the call changes nothing and wants no reply."""
    return bool(
        header.flags & NO_REPLY_EXPECTED
        and header.interface in STANDARD
        and (header.interface, header.member) != _SET
    )


def _refuse_unreadable(incoming: Incoming, method: Method) -> None:
    """Raise BusFault if the arguments are not there or come with descriptors nobody wants."""
    if incoming.problem is Problem.TOO_LARGE:
        raise faults.BusFault(
            faults.LIMITS_EXCEEDED,
            f"The arguments of {method.name} have {render_bytes(incoming.header.body_bytes)}; "
            f"the limit is {render_bytes(MAX_BODY_BYTES)}. The HTTP socket takes more.",
        )
    if incoming.body is None:
        raise faults.BusFault(
            faults.INVALID_ARGS,
            f"The arguments of {method.name} cannot be read, or are more than {MAX_CALL_VALUES} "
            "values.",
        )
    declared = sum(argument.signature == "h" for argument in method.inputs)
    if len(incoming.fds) != declared:
        raise faults.BusFault(
            faults.INVALID_ARGS,
            f"{method.name} takes {declared} file descriptors, not {len(incoming.fds)}.",
        )


def _take_arguments(incoming: Incoming, method: Method) -> tuple[object, ...]:
    """The arguments; descriptors among them leave `incoming`. Raises BusFault."""
    try:
        arguments = from_body(method.in_signature, incoming.body or (), incoming.fds)
    except ValueError as exc:
        raise faults.BusFault(faults.INVALID_ARGS, f"{method.name}: {exc}.") from exc
    incoming.fds = []
    return arguments


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
