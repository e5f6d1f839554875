"""What a call over D-Bus costs, beside the least that one can cost: a bare dbus-next service.

`python -m tests.bench.dbus` takes half a minute. Both services are processes of their own on one
private bus, and are asked in turns by the same client, so a busy machine slows both alike. The
daemon runs the fake engine: what is measured is the door.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, cast

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType
from dbus_next.service import ServiceInterface, method

from tests.bench.bars import Bar, print_bars
from tests.bus.flood import open_flood
from tests.private_bus import PrivateBus, private_bus
from tests.tiny_gguf import write_tiny_gguf
from unified_llm.bus.client import open_stream
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.names import (
    BUS_NAME,
    MANAGER_INTERFACE,
    OBJECT_MANAGER_INTERFACE,
    ROOT_PATH,
    model_path,
)
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Seconds

ECHO_NAME: Final = "org.example.Echo"
ECHO_PATH: Final = "/org/example/Echo"
ECHO_POLICY: Final = f"""<busconfig><policy context="default">
<allow own="{ECHO_NAME}"/><allow send_destination="{ECHO_NAME}"/></policy></busconfig>"""

ROUNDS: Final = 20
CALLS_PER_ROUND: Final = 200
OBJECTS: Final = 300
LISTINGS: Final = 20
STREAM_TOKENS: Final = 2000
FLOOD_SECONDS: Final = 5
FLOOD_CALLS: Final = 9
FLOODING_CONNECTIONS: Final = (0, 1, 20)
_READY_SECONDS: Final = 60


class Echo(ServiceInterface):
    """One method with the signature of GetModel, which does nothing."""

    def __init__(self) -> None:
        super().__init__(ECHO_NAME)

    @method()  # type: ignore[untyped-decorator]
    def GetModel(self, name: "s") -> "o":  # type: ignore[name-defined]  # noqa: F821, N802
        return model_path(ModelId(name))


async def serve_echo() -> None:
    """Be the bare service until killed."""
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    bus.export(ECHO_PATH, Echo())
    await bus.request_name(ECHO_NAME)
    await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def open_process(bus: PrivateBus, *command: str) -> AsyncIterator[None]:
    process = subprocess.Popen(
        [sys.executable, *command], env=bus.environment, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def wait_for_name(client: BusConnection, name: str) -> None:
    async with asyncio.timeout(_READY_SECONDS):
        while await client.call_bus("NameHasOwner", "s", name) != (True,):
            await asyncio.sleep(0.05)


def write_settings(folder: Path) -> Path:
    """A daemon that knows OBJECTS models, all in one file."""
    model = folder / "tiny.gguf"
    write_tiny_gguf(model)
    models = {f"model{number}": {"path": str(model)} for number in range(OBJECTS)}
    settings = {
        "models": {"directory": None, **models},
        "socket": {"path": str(folder / "api.sock"), "group": None},
        "worker": {"engine": "fake"},
        "defaults": {"context_tokens": 8192},
    }
    file = folder / "config.yaml"
    file.write_text(json.dumps(settings))
    return file


async def timed(count: int, call: Callable[[], Awaitable[object]]) -> float:
    """Seconds for one call, on average over `count`."""
    begun = time.perf_counter()
    for _ in range(count):
        await call()
    return (time.perf_counter() - begun) / count


async def measure_calls(client: BusConnection) -> Bar:
    """One caller that asks one thing after the other."""

    async def ours() -> object:
        return await client.call(
            BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, "GetModel", "s", "model7", expects="o"
        )

    async def bare() -> object:
        return await client.call(
            ECHO_NAME, ECHO_PATH, ECHO_NAME, "GetModel", "s", "model7", expects="o"
        )

    pairs = [
        (await timed(CALLS_PER_ROUND, ours), await timed(CALLS_PER_ROUND, bare))
        for _ in range(ROUNDS)
    ]
    mine, theirs = (statistics.median(each) for each in zip(*pairs, strict=True))
    print(f"GetModel {mine * 1e6:.0f} us, bare echo {theirs * 1e6:.0f} us")
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    return Bar("dbus.getmodel", ratio, at_most=1.5)


async def measure_listing(client: BusConnection) -> None:
    found = 0

    async def ask() -> None:
        nonlocal found
        (objects,) = await client.call(
            BUS_NAME, ROOT_PATH, OBJECT_MANAGER_INTERFACE, "GetManagedObjects"
        )
        found = len(cast("dict[str, object]", objects))

    seconds = await timed(LISTINGS, ask)
    print(f"GetManagedObjects of {found} objects: {seconds * 1000:.1f} ms, parsing included")


async def measure_stream(client: BusConnection) -> None:
    """From the fake engine to a reader of the pipe, with everything in between."""
    request: list[object] = ["model7", [["user", f"!tokens {STREAM_TOKENS}"]], {}]
    _, _, descriptor = await client.call(
        BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, "Generate", "sa(ss)a{sv}", *request
    )
    lines: list[bytes] = []
    begun = 0.0
    async with open_stream(cast("int", descriptor)) as reader:
        while line := await reader.readline():
            begun = begun or time.perf_counter()
            lines.append(line)
    seconds = time.perf_counter() - begun
    tokens = json.loads(lines[-1])["usage"]["completion_tokens"]
    print(f"stream: {tokens} tokens in {len(lines)} lines, {tokens / seconds:.0f} tokens/s")


async def measure_beside_flood(client: BusConnection, bus: PrivateBus) -> None:
    """What one user waits for us, and for the bus itself, while another floods us."""

    async def median(call: Callable[[], Awaitable[object]]) -> float:
        return 1000 * statistics.median([await timed(1, call) for _ in range(FLOOD_CALLS)])

    async def ours() -> object:
        return await client.call(
            BUS_NAME,
            ROOT_PATH,
            MANAGER_INTERFACE,
            "GetModel",
            "s",
            "model7",
            timeout=Seconds(120),
        )

    async def the_bus() -> object:
        return await client.call_bus("GetId")

    for connections in FLOODING_CONNECTIONS:
        async with AsyncExitStack() as stack:
            if connections:
                await stack.enter_async_context(open_flood(bus, connections))
                await asyncio.sleep(FLOOD_SECONDS)
            mine, its = await median(ours), await median(the_bus)
        print(f"flood on {connections} connections: GetModel {mine:.1f} ms, the bus {its:.1f} ms")


async def measure(folder: Path, bus: PrivateBus) -> list[Bar]:
    async with AsyncExitStack() as stack:
        settings = write_settings(folder)
        daemon = ("-m", "unified_llm.app.main", "--config", str(settings))
        await stack.enter_async_context(open_process(bus, *daemon))
        await stack.enter_async_context(open_process(bus, "-m", "tests.bench.dbus", "--echo"))
        client = await stack.enter_async_context(open_connection(bus.address))
        await wait_for_name(client, BUS_NAME)
        await wait_for_name(client, ECHO_NAME)
        bar = await measure_calls(client)
        await measure_listing(client)
        await measure_stream(client)
        if os.getuid() == 0:  # to be somebody else
            await measure_beside_flood(client, bus)
    return [bar]


def main() -> None:
    if "--echo" in sys.argv:
        asyncio.run(serve_echo())
        return
    with tempfile.TemporaryDirectory(prefix="dbus-bench-") as name:
        folder = Path(name)
        policy = folder / "echo.conf"
        policy.write_text(ECHO_POLICY)
        os.environ["STATE_DIRECTORY"] = name
        with private_bus(policies=[policy]) as bus:
            print_bars(asyncio.run(measure(folder, bus)))


if __name__ == "__main__":
    main()
