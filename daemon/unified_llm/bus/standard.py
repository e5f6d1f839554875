"""The interfaces every object has by the D-Bus specification, answered in our own words."""

from pathlib import Path
from typing import Final, cast

from unified_llm.bus import faults
from unified_llm.bus.interface import Interface, parse_interface
from unified_llm.bus.names import (
    DBUS_ERROR_PREFIX,
    INTROSPECTABLE_INTERFACE,
    OBJECT_MANAGER_INTERFACE,
    PEER_INTERFACE,
    PROPERTIES_INTERFACE,
    ROOT_PATH,
)
from unified_llm.bus.objects import LiveObject, ObjectTree
from unified_llm.bus.values import Variant
from unified_llm.domain.callers import Caller

_DOCTYPE: Final = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)

PEER: Final = parse_interface(f"""<node>
  <interface name="{PEER_INTERFACE}">
    <method name="Ping"/>
    <method name="GetMachineId"><arg name="machine_uuid" type="s" direction="out"/></method>
  </interface></node>""")

INTROSPECTABLE: Final = parse_interface(f"""<node>
  <interface name="{INTROSPECTABLE_INTERFACE}">
    <method name="Introspect"><arg name="xml_data" type="s" direction="out"/></method>
  </interface></node>""")

PROPERTIES: Final = parse_interface(f"""<node>
  <interface name="{PROPERTIES_INTERFACE}">
    <method name="Get">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="properties" type="a{{sv}}" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface_name" type="s"/>
      <arg name="changed_properties" type="a{{sv}}"/>
      <arg name="invalidated_properties" type="as"/>
    </signal>
  </interface></node>""")

OBJECT_MANAGER: Final = parse_interface(f"""<node>
  <interface name="{OBJECT_MANAGER_INTERFACE}">
    <method name="GetManagedObjects">
      <arg name="objects" type="a{{oa{{sa{{sv}}}}}}" direction="out"/>
    </method>
    <signal name="InterfacesAdded">
      <arg name="object" type="o"/>
      <arg name="interfaces" type="a{{sa{{sv}}}}"/>
    </signal>
    <signal name="InterfacesRemoved">
      <arg name="object" type="o"/>
      <arg name="interfaces" type="as"/>
    </signal>
  </interface></node>""")

STANDARD: Final = {
    found.name: found for found in (PEER, INTROSPECTABLE, PROPERTIES, OBJECT_MANAGER)
}


class StandardAnswers:
    """Answers to the methods of the standard interfaces, all but Properties.Set."""

    def __init__(self, tree: ObjectTree, *, machine_id: Path = Path("/etc/machine-id")) -> None:
        self._tree = tree
        self._machine_id = machine_id

    def interface_at(self, path: str, name: str) -> Interface | None:
        """The standard interface of that name, if it is there at `path`."""
        if name == OBJECT_MANAGER_INTERFACE and path != ROOT_PATH:
            return None
        return STANDARD.get(name)

    def answer(
        self,
        path: str,
        interface: str,
        member: str,
        arguments: tuple[object, ...],
        who: Caller | None,
    ) -> tuple[object, ...]:
        """The reply to a call that `interface_at` knows. Raises BusFault."""
        match interface, member:
            case _, "Ping":
                return ()
            case _, "GetMachineId":
                return (self._read_machine_id(),)
            case _, "Introspect":
                return (self._introspect(path, who),)
            case _, "Get":
                name, key = cast("tuple[str, str]", arguments)
                return (self._property(path, name, key),)
            case _, "GetAll":
                return (self._properties(path, cast("str", arguments[0])),)
            case _:
                return (self._managed_objects(),)

    def _read_machine_id(self) -> str:
        try:
            return self._machine_id.read_text(encoding="ascii").strip()
        except OSError as exc:
            raise faults.BusFault(
                f"{DBUS_ERROR_PREFIX}FileNotFound", f"This machine has no id: {exc.strerror}."
            ) from exc

    def _introspect(self, path: str, who: Caller | None) -> str:
        live = self._tree.get(path)
        parts = [PEER.xml, INTROSPECTABLE.xml]
        if live is not None:
            parts.append(PROPERTIES.xml)
            if path == ROOT_PATH:
                parts.append(OBJECT_MANAGER.xml)
            parts.extend(found.description.xml for found in live.exported.interfaces)
        parts.extend(f'<node name="{name}"/>' for name in self._tree.children(path, who))
        body = "\n  ".join(parts)
        return f"{_DOCTYPE}<node>\n  {body}\n</node>\n"

    def _property(self, path: str, interface: str, name: str) -> Variant:
        values = self._properties(path, interface)
        if name not in values:
            raise unknown_property(interface, name)
        return values[name]

    def _properties(self, path: str, interface: str) -> dict[str, Variant]:
        live = self._tree.get(path)
        if live is None or (interface not in live.interfaces and interface not in STANDARD):
            raise unknown_interface(path, interface)
        return dict(live.values(interface)) if interface in live.interfaces else {}

    def _managed_objects(self) -> dict[str, object]:
        return {live.path: live.all_values() for live in self._tree if is_managed(live)}


def is_managed(live: LiveObject) -> bool:
    """Whether the object manager at the root tells of this object; of private ones it does not."""
    return live.path.startswith(f"{ROOT_PATH}/") and live.exported.owner is None


def unknown_interface(path: str, interface: str) -> faults.BusFault:
    """The refusal of a call to an interface that is not there."""
    return faults.BusFault(
        faults.UNKNOWN_INTERFACE, f"{path} has no interface {interface[:100]!r}."
    )


def unknown_property(interface: str, name: str) -> faults.BusFault:
    """The refusal to read or write a property that is not there."""
    return faults.BusFault(
        faults.UNKNOWN_PROPERTY, f"{interface[:100]} has no property {name[:100]!r}."
    )
