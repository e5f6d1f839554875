"""A desktop program that asks a model, with nothing but the package dbus-next.

    python desktop_client.py tiny "Why is the sky blue?"

It lists the models, follows their states, prints an answer while it comes, and asks the HTTP API.
"""

import asyncio
import http.client
import json
import os
import socket
import sys

from dbus_next import BusType, Variant
from dbus_next.aio import MessageBus

NAME, PATH = "org.unifiedllm1", "/org/unifiedllm1"


async def main(model: str, prompt: str) -> None:
    bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
    node = await bus.introspect(NAME, PATH)
    manager = bus.get_proxy_object(NAME, PATH, node).get_interface(f"{NAME}.Manager")

    for name, state, _backend, size, _path in await manager.call_list_models({}):
        print(f"{name}: {state}, {size} bytes in memory")

    path = await manager.call_get_model(model)
    properties = bus.get_proxy_object(NAME, path, await bus.introspect(NAME, path)).get_interface(
        "org.freedesktop.DBus.Properties"
    )
    properties.on_properties_changed(print_state)

    options = {"max_tokens": Variant("u", 64), "temperature": Variant("d", 0.2)}
    _id, _job, stream = await manager.call_generate(model, [["user", prompt]], options)
    await asyncio.to_thread(print_answer, stream)

    connection = await manager.call_open_http_connection({})
    await asyncio.to_thread(print_status, connection)
    bus.disconnect()


def print_state(_interface: str, changed: dict[str, Variant], _invalidated: list[str]) -> None:
    if "State" in changed:
        print(f"[now {changed['State'].value}]")


def print_answer(stream: int) -> None:
    with os.fdopen(stream, encoding="utf-8") as lines:  # closing it early cancels the answer
        for line in map(json.loads, lines):
            print(line.get("text", ""), end="", flush=True)
            if "error" in line:
                print(f"{line['error']['message']} {line['error']['hint']}")
    print()


def print_status(connection: int) -> None:
    client = http.client.HTTPConnection("local")
    client.sock = socket.socket(fileno=connection)
    client.request("GET", "/v1/status")
    print(json.load(client.getresponse())["health"]["state"])
    client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
