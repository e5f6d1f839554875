"""The library's own connection, to show what is wrong with it and to play a hostile peer."""

import asyncio
import os
import struct
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import PropertyAccess
from dbus_next.errors import DBusError
from dbus_next.service import ServiceInterface, dbus_property, method
from dbus_next.signature import Variant

from unified_llm.bus.encoding import encode_call
from unified_llm.bus.names import BUS_NAME, MANAGER_INTERFACE, ROOT_PATH


@asynccontextmanager
async def open_stock(address: str) -> AsyncIterator[Any]:
    """A connected `dbus_next.aio.MessageBus`; closed as the library itself never does."""
    bus: Any = await MessageBus(bus_address=address, negotiate_unix_fd=True).connect()
    try:
        yield bus
    finally:
        if not bus._disconnected:
            bus._user_disconnect = True
            bus._finalize()
        if not bus._disconnect_future.cancelled():
            bus._disconnect_future.exception()
        bus._stream.close()
        bus._sock.close()


@asynccontextmanager
async def open_stock_service(address: str) -> AsyncIterator[Any]:
    """The same service as `probe`, as far as needed, as the library would have it written."""
    async with open_stock(address) as bus:
        bus.export(ROOT_PATH, StockProbe())
        await bus.request_name(BUS_NAME)
        yield bus


def stock_probe_class() -> type[Any]:
    """Made by a function: the library's annotations are signatures, which no type checker reads."""
    namespace: dict[str, Any] = {}

    def init(self: Any) -> None:
        ServiceInterface.__init__(self, MANAGER_INTERFACE)

    async def break_(_self: Any) -> None:
        raise RuntimeError("secret of /some/path")

    async def refuse(_self: Any) -> None:
        raise DBusError(  # type: ignore[no-untyped-call]
            "org.unifiedllm1.Error.NoSuchModel", "no"
        )

    async def cancel_itself(_self: Any) -> None:
        raise asyncio.CancelledError

    def open_(_self: Any) -> Any:
        reading, writing = os.pipe()
        os.write(writing, b"hello\n")
        os.close(writing)
        return reading

    def level(_self: Any) -> Any:
        return 1

    open_.__annotations__["return"] = "h"
    level.__annotations__["return"] = "u"
    namespace["__init__"] = init
    namespace["Break"] = method("Break")(break_)
    namespace["Refuse"] = method("Refuse")(refuse)
    namespace["CancelItself"] = method("CancelItself")(cancel_itself)
    namespace["Open"] = method("Open")(open_)
    namespace["Level"] = dbus_property(access=PropertyAccess.READ, name="Level")(level)
    return type("StockProbe", (ServiceInterface,), namespace)


with warnings.catch_warnings():
    # The library's decorator uses one of typing's that Python 3.13 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    StockProbe = stock_probe_class()


def count_fds() -> int:
    """Open descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def raw_call(serial: int, member: str, signature: str, body: bytes) -> bytes:
    """A call of the manager with a body made by hand; the signature must be one of three."""
    placeholder: dict[str, object] = {"as": [], "s": "", "v": Variant("s", "")}
    data = bytearray(
        encode_call(
            serial,
            destination=BUS_NAME,
            path=ROOT_PATH,
            interface=MANAGER_INTERFACE,
            member=member,
            signature=signature,
            values=(placeholder[signature],),
            flags=0,
        ).data
    )
    (placeholder_bytes,) = struct.unpack_from("<I", data, 4)
    struct.pack_into("<I", data, 4, len(body))
    return bytes(data[:-placeholder_bytes]) + body


def many_empty_strings(size: int) -> bytes:
    """An `as` of `size` bytes that is cheap to send and dear to parse."""
    strings = bytes(8) * (size // 8)
    strings = strings[:-3]
    return struct.pack("<I", len(strings)) + strings


def large_body(signature: str, size: int) -> bytes:
    """A legal body of that signature, of about `size` bytes."""
    text = struct.pack("<I", size) + b"x" * size + b"\0"
    return {
        "as": many_empty_strings(size),
        "s": text,
        "v": b"\x01s\0\0" + text,
    }[signature]
