"""A service with one method for each thing a handler may do, under a name the policy allows."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.exporter import Exporter, open_exporter
from unified_llm.bus.faults import BusFault
from unified_llm.bus.interface import parse_interface
from unified_llm.bus.names import BUS_NAME, MANAGER_INTERFACE, MODEL_INTERFACE, ROOT_PATH
from unified_llm.bus.objects import CallContext, ExportedInterface, ExportedObject
from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import UnknownModel

PROBE = parse_interface(f"""<node>
  <interface name="{MANAGER_INTERFACE}">
    <!-- Shown to clients as it stands here. -->
    <method name="Echo">
      <arg name="text" type="s" direction="in"/><arg name="same" type="s" direction="out"/>
    </method>
    <method name="Any"><arg name="value" type="v" direction="in"/></method>
    <method name="Who">
      <arg name="uid" type="u" direction="out"/><arg name="groups" type="au" direction="out"/>
      <arg name="connection" type="s" direction="out"/><arg name="asks" type="b" direction="out"/>
    </method>
    <method name="Refuse"/>
    <method name="RefuseInOtherWords"/>
    <method name="Break"/>
    <method name="WrongType"><arg name="text" type="s" direction="out"/></method>
    <method name="Huge"><arg name="bytes" type="ay" direction="out"/></method>
    <method name="CancelItself"/>
    <method name="Wait"/>
    <method name="Open"><arg name="stream" type="h" direction="out"/></method>
    <method name="Read">
      <arg name="file" type="h" direction="in"/><arg name="text" type="s" direction="out"/>
    </method>
    <signal name="Tick"><arg name="number" type="u"/></signal>
    <property name="Level" type="u" access="readwrite"/>
    <property name="Version" type="s" access="read">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="const"/>
    </property>
    <property name="Load" type="d" access="read">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>
    </property>
    <property name="Secret" type="s" access="read">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="invalidates"/>
    </property>
  </interface></node>""")

ITEM = parse_interface(f"""<node>
  <interface name="{MODEL_INTERFACE}">
    <property name="State" type="s" access="read"/>
    <property name="Count" type="u" access="read"/>
  </interface></node>""")


def item(state: str = "ready", *, owner: Caller | None = None) -> ExportedObject:
    """A small object to have many of."""
    return ExportedObject(
        (ExportedInterface(ITEM, properties={"State": state, "Count": 0}),), owner=owner
    )


@dataclass
class Probe:
    """The running service and what happened to it."""

    bus: BusConnection
    exporter: Exporter
    waiting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    ended: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def exported(self) -> ExportedObject:
        """What is exported at the root."""
        return ExportedObject(
            (
                ExportedInterface(
                    PROBE,
                    methods={
                        "Echo": self._echo,
                        "Any": self._any,
                        "Who": self._who,
                        "Refuse": self._refuse,
                        "RefuseInOtherWords": self._refuse_in_other_words,
                        "Break": self._break,
                        "WrongType": self._wrong_type,
                        "Huge": self._huge,
                        "CancelItself": self._cancel_itself,
                        "Wait": self._wait,
                        "Open": self._open,
                        "Read": self._read,
                    },
                    properties={"Level": 1, "Version": "1", "Load": 0.5, "Secret": "a"},
                    setters={"Level": self._set_level},
                ),
            )
        )

    async def _echo(self, _context: CallContext, text: str) -> tuple[object, ...]:
        return (text,)

    async def _any(self, _context: CallContext, _value: object) -> None:
        return None

    async def _who(self, context: CallContext) -> tuple[object, ...]:
        await asyncio.sleep(0)
        caller = context.caller
        return caller.uid, sorted(caller.gids), caller.connection, context.may_interact

    async def _refuse(self, _context: CallContext) -> None:
        raise UnknownModel("There is no model 'x'.", hint="Ask for the list.")

    async def _refuse_in_other_words(self, _context: CallContext) -> None:
        raise BusFault("org.unifiedllm1.Error.AuthorizationDismissed", "Dismissed.")

    async def _break(self, _context: CallContext) -> None:
        raise RuntimeError("secret of /some/path")

    async def _wrong_type(self, _context: CallContext) -> tuple[object, ...]:
        return (7,)

    async def _huge(self, _context: CallContext) -> tuple[object, ...]:
        return (bytes(40 * 1024 * 1024),)

    async def _cancel_itself(self, _context: CallContext) -> None:
        raise asyncio.CancelledError

    async def _wait(self, _context: CallContext) -> None:
        self.waiting.release()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.release()

    async def _open(self, _context: CallContext) -> tuple[object, ...]:
        reading, writing = os.pipe()
        os.write(writing, b"hello\n")
        os.close(writing)
        return (reading,)

    async def _read(self, _context: CallContext, file: int) -> tuple[object, ...]:
        with os.fdopen(file) as opened:
            return (opened.read(),)

    async def _set_level(self, context: CallContext, value: object) -> None:
        self.exporter.set_properties(context.path, context.interface, {"Level": value})


@asynccontextmanager
async def open_probe(address: str) -> AsyncIterator[Probe]:
    """Run the service in this process, under our name."""
    async with open_connection(address) as bus, open_exporter(bus) as exporter:
        probe = Probe(bus, exporter)
        exporter.export(ROOT_PATH, probe.exported())
        await bus.request_name(BUS_NAME)
        yield probe


async def ask(
    client: BusConnection, member: str, signature: str = "", *values: object
) -> tuple[object, ...]:
    """Call a method of the probe."""
    return await client.call(BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, member, signature, *values)
