"""Our objects on the bus. This is what `surfaces.dbus` builds upon.

    MODEL = load_interface(path_of_xml)                        # bus.interface; ours, shipped

    async with open_connection() as bus, open_exporter(bus) as exporter:
        exporter.export(
            model_path(id),                                    # bus.names
            ExportedObject((                                   # bus.objects
                ExportedInterface(
                    MODEL,
                    methods={"Load": load, ...},               # exactly the methods of the XML
                    properties={"State": "ready", ...},        # exactly its properties
                    setters={},                                # exactly its writable properties
                    reader=read,                               # those that change unannounced
                ),
            )),
        )
        await bus.request_name(BUS_NAME)                       # after everything is exported
        ...
        exporter.set_properties(path, MODEL_INTERFACE, {"State": "draining"})
        exporter.emit_signal(ROOT_PATH, MANAGER_INTERFACE, "JobNew", 7, path, to=connection)
        exporter.unexport(path)
        reason = await bus.wait_closed()                       # then exit with an error

Handlers: `async def load(context: CallContext, id: str, options: dict[str, Variant]) -> tuple`.
- `context.caller` is the verified identity; a caller the bus cannot name never reaches a handler.
- They return the outputs as a tuple, None for none. Structs may be tuples or lists. Values of type
  `v` are `bus.values.Variant(signature, value)`; `bus.values.unwrap` strips them off arguments.
- A returned descriptor now belongs to the bus and is closed when it is sent. A received one, for a
  method that declares `h`, belongs to the handler.
- They raise UnifiedLlmError, or `faults.BusFault(name, text)` where D-Bus has a name of its own.
  Anything else is logged with an incident id, and the caller is told only the id.
- They are cancelled when the caller leaves the bus, and when the exporter is left.

Properties are values, not code: what was set last is what clients read, but for those of a
`reader`, which change too often to be announced and are asked for when they are read. Changes made
in one turn of the event loop go out as one signal, as EmitsChangedSignal of the XML says; who
changes something often (progress) limits how often. Everything has its signature checked: values
that do not fit the XML raise TypeError or ValueError in the code that passes them.
Private objects (`ExportedObject.owner`) exist only for their user and root.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from unified_llm.bus.calls import Calls
from unified_llm.bus.connection import BusConnection
from unified_llm.bus.credentials import Credentials
from unified_llm.bus.dispatch import Dispatcher
from unified_llm.bus.intake import Intake
from unified_llm.bus.names import OBJECT_MANAGER_INTERFACE, PROPERTIES_INTERFACE, ROOT_PATH
from unified_llm.bus.objects import ExportedObject, LiveObject, ObjectTree
from unified_llm.bus.standard import is_managed
from unified_llm.domain.callers import Caller


class Exporter:
    """Puts objects on a connection and tells clients what changes; made by `open_exporter`."""

    def __init__(self, bus: BusConnection, tree: ObjectTree, credentials: Credentials) -> None:
        self._bus = bus
        self._tree = tree
        self._credentials = credentials
        self._changed: dict[str, LiveObject] = {}

    @property
    def callers(self) -> tuple[Caller, ...]:
        """Who has called, and has not left the bus since; one for each connection."""
        return self._credentials.all_known

    def export(self, path: str, exported: ExportedObject) -> None:
        """Put an object at `path` and announce it.

        Raises ValueError if there is one already, TypeError or ValueError if values do not fit.
        """
        live = self._tree.add(path, exported)
        if is_managed(live):
            self._bus.emit(
                ROOT_PATH,
                OBJECT_MANAGER_INTERFACE,
                "InterfacesAdded",
                "oa{sa{sv}}",
                path,
                live.all_values(),
            )

    def unexport(self, path: str) -> None:
        """Take the object at `path` away and announce it. Raises KeyError if there is none."""
        live = self._tree.remove(path)
        self._changed.pop(path, None)
        if is_managed(live):
            self._bus.emit(
                ROOT_PATH,
                OBJECT_MANAGER_INTERFACE,
                "InterfacesRemoved",
                "oas",
                path,
                list(live.interfaces),
            )

    def is_exported(self, path: str) -> bool:
        """Whether an object is at `path`."""
        return self._tree.get(path) is not None

    def set_properties(self, path: str, interface: str, values: Mapping[str, object]) -> None:
        """Change properties; clients are told once per turn of the event loop, if they differ.

        Raises KeyError for a path, interface or property that is not there; TypeError or ValueError
        for a value that does not fit or a constant that changes.
        """
        if self._live(path).set(interface, values):
            if not self._changed:
                asyncio.get_running_loop().call_soon(self._tell_changes)
            self._changed[path] = self._live(path)

    def emit_signal(
        self, path: str, interface: str, member: str, *values: object, to: str | None = None
    ) -> None:
        """Send a signal of an exported interface to everybody, or to the connection `to` alone.

        A private object's signals go to its owner's connection. Raises KeyError for what is not
        there, TypeError or ValueError for values that do not fit.
        """
        live = self._live(path)
        described = live.interfaces[interface].description.signals[member]
        self._bus.emit(
            path, interface, member, described.signature, *values, to=live.signals_to or to
        )

    def _live(self, path: str) -> LiveObject:
        live = self._tree.get(path)
        if live is None:
            raise KeyError(path)
        return live

    def _tell_changes(self) -> None:
        changed, self._changed = self._changed, {}
        for live in changed.values():
            for change in live.take_changes():
                self._bus.emit(
                    change.path,
                    PROPERTIES_INTERFACE,
                    "PropertiesChanged",
                    "sa{sv}as",
                    change.interface,
                    change.values,
                    change.invalidated,
                    to=change.to,
                )


@asynccontextmanager
async def open_exporter(bus: BusConnection) -> AsyncIterator[Exporter]:
    """Answer the calls that arrive on `bus`; on leaving, those in flight are cancelled."""
    tree = ObjectTree()
    async with Calls() as calls:
        credentials = Credentials(bus)
        intake = Intake(Dispatcher(bus, tree, calls), calls, credentials)
        bus.serve(intake)
        unsubscribe = bus.on_name_vanished(calls.on_name_vanished)
        try:
            yield Exporter(bus, tree, credentials)
        finally:
            unsubscribe()
            bus.serve(None)
            intake.close()
