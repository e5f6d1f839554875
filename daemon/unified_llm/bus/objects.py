"""What is exported: interfaces with their handlers, objects at their paths, property values."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from unified_llm.bus.interface import ChangeSignal, Interface, Property
from unified_llm.bus.names import is_object_path
from unified_llm.bus.values import Variant, to_body
from unified_llm.domain.callers import Caller


@dataclass(frozen=True, slots=True)
class CallContext:
    """Who calls what.

    caller: verified identity; its `connection` is the unique name of the sender.
    may_interact: the caller allows that a person is asked for a password.
    """

    caller: Caller
    path: str
    interface: str
    member: str
    may_interact: bool


Handler = Callable[..., Awaitable[tuple[object, ...] | None]]
"""Takes a CallContext and the arguments, returns the outputs as a tuple, or None for no outputs."""

Reader = Callable[[], Mapping[str, object]]
"""The values of properties as they are now. Returns at once and never raises."""

Setter = Callable[[CallContext, object], Awaitable[None]]
"""Takes a CallContext, whose member is the property, and the new value; must `set_properties`."""


@dataclass(frozen=True, slots=True)
class ExportedInterface:
    """An interface of ours with what stands behind it; may be exported at many paths.

    methods: a handler for each method of the description.
    properties: an initial value for each property.
    setters: for each property that can be written.
    reader: asked at each reading, for properties whose changes are not announced.
    """

    description: Interface
    methods: Mapping[str, Handler] = field(default_factory=dict)
    properties: Mapping[str, object] = field(default_factory=dict)
    setters: Mapping[str, Setter] = field(default_factory=dict)
    reader: Reader = dict

    def __post_init__(self) -> None:
        described = self.description
        writable = {name for name, found in described.properties.items() if found.is_writable}
        for what, wanted, given in (
            ("methods", set(described.methods), set(self.methods)),
            ("properties", set(described.properties), set(self.properties)),
            ("setters", writable, set(self.setters)),
        ):
            if wanted != given:
                raise ValueError(
                    f"{described.name}: {what} differ from the XML: {sorted(wanted ^ given)}"
                )
        for method in described.methods.values():
            for argument in (*method.inputs, *method.outputs):
                if "h" in argument.signature and argument.signature != "h":
                    raise ValueError(f"{method.name}: a descriptor must be an argument of its own")


@dataclass(frozen=True, slots=True)
class ExportedObject:
    """The interfaces at a path.

    owner: if set, the object is private: it exists only for this user and root, is not announced,
        and its signals go to the owner's connection alone.
    """

    interfaces: tuple[ExportedInterface, ...]
    owner: Caller | None = None

    def is_visible_to(self, caller: Caller | None) -> bool:
        """Whether the object exists for `caller`; None is somebody nobody has looked up."""
        if self.owner is None:
            return True
        return caller is not None and caller.uid in (0, self.owner.uid)


@dataclass(frozen=True, slots=True)
class Change:
    """Properties of one interface that clients should be told of."""

    path: str
    interface: str
    values: Mapping[str, Variant]
    invalidated: tuple[str, ...]
    to: str | None


class LiveObject:
    """An exported object with the current values of its properties."""

    def __init__(self, path: str, exported: ExportedObject) -> None:
        self.path = path
        self.exported = exported
        self.interfaces = {found.description.name: found for found in exported.interfaces}
        if len(self.interfaces) != len(exported.interfaces):
            raise ValueError(f"{path}: the same interface twice")
        self._values = {
            name: {
                key: variant_of(found.description.properties[key], value)
                for key, value in found.properties.items()
            }
            for name, found in self.interfaces.items()
        }
        self._told: dict[tuple[str, str], Variant] = {}

    @property
    def signals_to(self) -> str | None:
        """The one connection its signals go to; None for everybody."""
        return self.exported.owner.connection if self.exported.owner else None

    def values(self, interface: str) -> Mapping[str, Variant]:
        """The properties of an interface of this object."""
        found, current = self.interfaces[interface], self._values[interface]
        for name, value in found.reader().items():
            described = found.description.properties[name]
            if described.emits is not ChangeSignal.NONE:
                raise ValueError(f"{interface}.{name} would change without a signal")
            current[name] = variant_of(described, value)
        return current

    def all_values(self) -> dict[str, Mapping[str, Variant]]:
        """The properties of every interface."""
        return {name: self.values(name) for name in self._values}

    def set(self, interface: str, values: Mapping[str, object]) -> bool:
        """Take new values; whether anything is to be told. Raises KeyError, ValueError, TypeError.

        Each is a bug of ours: an unknown name, a value that does not fit, a constant that changes.
        """
        described = self.interfaces[interface].description.properties
        current = self._values[interface]
        fresh = {name: variant_of(described[name], value) for name, value in values.items()}
        for name, variant in fresh.items():
            if variant == current[name]:
                continue
            if described[name].emits is ChangeSignal.CONST:
                raise ValueError(f"{interface}.{name} is constant")
            self._told.setdefault((interface, name), current[name])
            current[name] = variant
        return bool(self._told)

    def take_changes(self) -> Iterator[Change]:
        """What differs from what clients were told last; it counts as told from now on."""
        told, self._told = self._told, {}
        changed: dict[str, list[str]] = {}
        for (interface, name), before in told.items():
            if self._values[interface][name] != before:
                changed.setdefault(interface, []).append(name)
        for interface, names in changed.items():
            described = self.interfaces[interface].description.properties
            values = {
                name: self._values[interface][name]
                for name in names
                if described[name].emits is ChangeSignal.VALUE
            }
            invalidated = tuple(
                name for name in names if described[name].emits is ChangeSignal.INVALIDATES
            )
            if values or invalidated:
                yield Change(self.path, interface, values, invalidated, self.signals_to)


class ObjectTree:
    """Which object is at which path."""

    def __init__(self) -> None:
        self._objects: dict[str, LiveObject] = {}
        self._private = 0

    @property
    def has_private(self) -> bool:
        """Whether some objects exist only for some callers."""
        return self._private > 0

    def __iter__(self) -> Iterator[LiveObject]:
        return iter(self._objects.values())

    def get(self, path: str) -> LiveObject | None:
        """The object at `path`."""
        return self._objects.get(path)

    def add(self, path: str, exported: ExportedObject) -> LiveObject:
        """Put an object at `path`. Raises ValueError if there is one or the path is not legal."""
        if not is_object_path(path):
            raise ValueError(f"{path!r} is not an object path")
        if path in self._objects:
            raise ValueError(f"{path} is exported already")
        live = LiveObject(path, exported)
        self._objects[path] = live
        self._private += exported.owner is not None
        return live

    def remove(self, path: str) -> LiveObject:
        """Take the object away. Raises KeyError if there is none."""
        live = self._objects.pop(path)
        self._private -= live.exported.owner is not None
        return live

    def leads_somewhere(self, path: str) -> bool:
        """Whether there is an object at `path` or anywhere below it."""
        return path in self._objects or any(live.path.startswith(_below(path)) for live in self)

    def children(self, path: str, caller: Caller | None) -> list[str]:
        """Names of the nodes directly below `path` that lead to something visible, sorted."""
        prefix = _below(path)
        return sorted(
            {
                live.path.removeprefix(prefix).split("/", 1)[0]
                for live in self
                if live.path.startswith(prefix)
                and live.path != path
                and live.exported.is_visible_to(caller)
            }
        )


def _below(path: str) -> str:
    return "/" if path == "/" else f"{path}/"


def variant_of(described: Property, value: object) -> Variant:
    """The value as it is sent. Raises TypeError or ValueError if it does not fit."""
    (body,), fds = to_body(described.signature, (value,))
    if fds:
        raise ValueError(f"property {described.name}: a descriptor is no property")
    return Variant(described.signature, body)
