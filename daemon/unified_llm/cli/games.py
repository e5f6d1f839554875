"""`unified-llm session`: the desktop's games come before the models.

GameMode lives on the session bus, where the daemon may not look. This helper runs as the user and
holds a lease on memory while a game is registered; the lease ends with it, however it ends.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Final

import sdnotify
import typer

from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.faults import DISCONNECTED, BusFault
from unified_llm.bus.following import RemoteProperty, follow_property
from unified_llm.bus.handshake import session_bus_address
from unified_llm.cli.session import DaemonUnreachable, reporting
from unified_llm.cli.sizes import parse_size
from unified_llm.cli.vram import Wish, keep_lease
from unified_llm.domain.units import Bytes, Seconds

GAME_MODE: Final = "com.feralinteractive.GameMode"
_CLIENTS: Final = RemoteProperty(
    GAME_MODE,
    "/com/feralinteractive/GameMode",
    GAME_MODE,
    "ClientCount",
    also=("GameRegistered", "GameUnregistered"),
)
_RETRY: Final = Seconds(30)


def session(
    vram: Annotated[
        str, typer.Option(help="How much models leave to games; half of it and so on if refused.")
    ] = "4G",
    release_after: Annotated[
        float,
        typer.Option(min=0, max=3600, help="Seconds without a game after which they come back."),
    ] = 10,
) -> None:
    """Have models make room while a game runs, as far as GameMode is told of it.

    Runs until it is told to stop: `unified-llm-session.service` does it in each login. GameMode is
    watched on the session bus and never started, nor is the daemon. What happens is told on
    standard error, and to systemd.
    """
    wish = Wish(Bytes(parse_size(vram)), "GameMode", "a game is running", is_game=True)
    with reporting(as_json=False):
        try:
            reason = asyncio.run(_run(wish, Seconds(release_after)))
        except BusFault as error:
            raise DaemonUnreachable(f"D-Bus: {error}.") from error
        if reason is not None:
            raise DaemonUnreachable(f"D-Bus: the bus is gone: {reason}.")


async def _run(wish: Wish, settle: Seconds) -> str | None:
    """None when told to stop; why a bus is gone, if one is. Raises BusFault if there is none."""
    over: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    async with (
        open_connection(session_bus_address()) as desktop,
        open_connection() as system,
        _running(_watch(desktop, system, wish, settle)),
    ):
        for bus in (desktop, system):
            bus.on_lost(over.put_nowait)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, over.put_nowait, None)
        reason = await over.get()
        _notify("STOPPING=1")
    return reason


async def _watch(
    desktop: BusConnection, system: BusConnection, wish: Wish, settle: Seconds
) -> None:
    games = Games()
    async with _running(_follow(desktop, games)):
        await games.known.wait()
        _notify("READY=1")
        while True:
            _tell("no game runs")
            await games.began.wait()
            keeping = keep_lease(
                system, wish, retry=_RETRY, tell=lambda state: _tell(f"a game runs: {state}")
            )
            async with _running(_until_off_the_bus(keeping)):
                await games.over(settle)


async def _follow(desktop: BusConnection, games: "Games") -> None:
    await _until_off_the_bus(follow_property(desktop, _CLIENTS, games.on_count))


async def _until_off_the_bus(work: Coroutine[object, object, None]) -> None:
    """Whoever opened the bus is told of its end, and why."""
    try:
        await work
    except BusFault as fault:
        if fault.name != DISCONNECTED:
            raise


class Games:
    """Whether any is registered. known: that GameMode, if it runs, has answered."""

    def __init__(self) -> None:
        self.known = asyncio.Event()
        self.began = asyncio.Event()
        self._ended = asyncio.Event()

    def on_count(self, count: object | None) -> None:
        """GameMode has so many clients; None if it does not run."""
        is_any = isinstance(count, int) and count > 0
        now, before = (self.began, self._ended) if is_any else (self._ended, self.began)
        before.clear()
        now.set()
        self.known.set()

    async def over(self, settle: Seconds) -> None:
        """Return when there has been none for so long: games restart themselves."""
        while True:
            await self._ended.wait()
            try:
                async with asyncio.timeout(settle):
                    await self.began.wait()
            except TimeoutError:
                return


@asynccontextmanager
async def _running(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        task.cancel()


def _tell(sentence: str) -> None:
    typer.echo(sentence, err=True)
    _notify(f"STATUS={sentence}")


def _notify(line: str) -> None:
    # Without the variable the library would open a socket that nobody closes.
    if "NOTIFY_SOCKET" not in os.environ:
        return
    systemd = sdnotify.SystemdNotifier()
    if systemd.socket is not None:
        with systemd.socket:
            systemd.socket.settimeout(1)
            systemd.notify(line)
