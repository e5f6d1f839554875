"""Follows services that may come, go and be replaced, without ever starting one.

A call to a name that nobody owns has the bus start its service, so whoever only watches addresses
the owner and not the name. (A bar that watched GameMode by its name kept it resident, aphotic-hypr
issue 73.)
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, cast

from unified_llm.bus.connection import BusConnection, Signal
from unified_llm.bus.faults import DISCONNECTED, BusFault
from unified_llm.bus.names import DBUS_NAME, PROPERTIES_INTERFACE
from unified_llm.bus.values import unwrap

_log = logging.getLogger(__name__)
_CHANGED: Final = "PropertiesChanged"
_OWNER_CHANGED: Final = "NameOwnerChanged"


@dataclass(frozen=True, slots=True)
class RemoteProperty:
    """A property of another service.

    also: signals of its interface after which it may have changed.
    """

    service: str
    path: str
    interface: str
    name: str
    also: tuple[str, ...] = ()


async def owner_of(bus: BusConnection, name: str) -> str:
    """The unique name behind `name`; empty if nobody owns it. Raises BusFault off the bus."""
    try:
        (owner,) = await bus.call_bus("GetNameOwner", "s", name, expects="s")
    except BusFault as fault:
        if fault.name == DISCONNECTED:
            raise
        return ""
    return cast("str", owner)


@asynccontextmanager
async def open_owner_news(
    bus: BusConnection, name: str, on_news: Callable[[], None]
) -> AsyncIterator[None]:
    """Call `on_news` whenever `name` gets another owner, or loses it. Raises BusFault."""

    def tell(signal: Signal) -> None:
        if signal.body[:1] == (name,):
            on_news()

    stop = bus.on_signal(DBUS_NAME, DBUS_NAME, _OWNER_CHANGED, tell)
    try:
        rule = _rule(DBUS_NAME, DBUS_NAME, _OWNER_CHANGED, f",arg0='{name}'")
        async with _matching(bus, rule):
            yield
    finally:
        stop()


async def follow_property(
    bus: BusConnection, wanted: RemoteProperty, on_value: Callable[[object | None], None]
) -> None:
    """Tell `on_value` the plain value now and when it changes, until cancelled.

    None is told while nobody offers it. Raises BusFault off the bus.
    """
    news = asyncio.Event()
    news.set()
    followed = ""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(open_owner_news(bus, wanted.service, news.set))
        for rule in _rules(wanted):
            await stack.enter_async_context(_matching(bus, rule))
        listening = stack.enter_context(ExitStack())
        told: tuple[object | None, ...] = ()
        while True:
            await news.wait()
            news.clear()
            owner = await owner_of(bus, wanted.service)
            if owner != followed:
                listening.close()
                followed = owner
                _listen(bus, owner, wanted, news.set, listening)
            value = await _read(bus, owner, wanted) if owner else None
            if told != (value,):
                told = (value,)
                on_value(value)


def _listen(
    bus: BusConnection,
    owner: str,
    wanted: RemoteProperty,
    on_news: Callable[[], None],
    listening: ExitStack,
) -> None:
    for interface, member in (
        (PROPERTIES_INTERFACE, _CHANGED),
        *((wanted.interface, member) for member in wanted.also),
    ):
        listening.callback(bus.on_signal(owner, interface, member, lambda _: on_news()))


def _rules(wanted: RemoteProperty) -> tuple[str, ...]:
    path = f",path='{wanted.path}'"
    changed = f"{path},arg0='{wanted.interface}'"
    return (
        _rule(wanted.service, PROPERTIES_INTERFACE, _CHANGED, changed),
        *(_rule(wanted.service, wanted.interface, member, path) for member in wanted.also),
    )


def _rule(sender: str, interface: str, member: str, more: str) -> str:
    return f"type='signal',sender='{sender}',interface='{interface}',member='{member}'{more}"


@asynccontextmanager
async def _matching(bus: BusConnection, rule: str) -> AsyncIterator[None]:
    await bus.add_match(rule)
    try:
        yield
    finally:
        # The bus forgets the rules of a connection that has ended.
        with suppress(BusFault):
            await bus.remove_match(rule)


async def _read(bus: BusConnection, owner: str, wanted: RemoteProperty) -> object | None:
    get = (wanted.interface, wanted.name)
    try:
        (value,) = await bus.call(
            owner, wanted.path, PROPERTIES_INTERFACE, "Get", "ss", *get, expects="v"
        )
    except BusFault as fault:
        if fault.name == DISCONNECTED:
            raise
        _log.info("%s does not tell %s: %s", wanted.service, wanted.name, fault)
        return None
    return unwrap(value)
