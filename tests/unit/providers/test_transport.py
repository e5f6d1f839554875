"""HTTP to a provider, tried against a server that sends exactly what it was told to."""

import gzip
import logging
import os
import ssl
import subprocess
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.timers import settle
from tests.fakes.upstream import Cut, Script, Stall, Upstream, open_upstream, reply, stream
from unified_llm.domain.errors import (
    ProviderDenied,
    ProviderDown,
    ProviderFailed,
    ProviderOverloaded,
    ProviderRefused,
    UnifiedLlmError,
)
from unified_llm.domain.secret import Secret
from unified_llm.domain.units import Seconds
from unified_llm.providers import transport as module
from unified_llm.providers.transport import Address, Transport, open_transport

KEY = Secret("sk-canary-0123456789")
HEADERS = {"authorization": f"Bearer {KEY.reveal()}"}


@asynccontextmanager
async def open_both(*scripts: Script) -> AsyncIterator[tuple[Upstream, Transport]]:
    async with (
        open_upstream(*scripts) as upstream,
        open_transport(Address(upstream.url), KEY) as transport,
    ):
        yield upstream, transport


async def read(transport: Transport) -> bytes:
    async with transport.open_stream("chat", HEADERS, b"{}") as chunks:
        return b"".join([chunk async for chunk in chunks])


async def failure(transport: Transport) -> UnifiedLlmError:
    with pytest.raises(UnifiedLlmError) as caught:
        await read(transport)
    return caught.value


async def test_a_request_carries_the_key_in_its_header_and_asks_for_no_compression() -> None:
    async with open_both(stream(b"one", b"two")) as (upstream, transport):
        assert await read(transport) == b"onetwo"
    (asked,) = upstream.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/chat", b"{}")
    assert asked.headers["authorization"] == "Bearer sk-canary-0123456789"
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers["content-type"] == "application/json"


async def test_connections_are_used_again() -> None:
    async with open_both(stream(b"one")) as (upstream, transport):
        for _ in range(3):
            await read(transport)
        await transport.get("models", HEADERS)
    assert [asked.connection for asked in upstream.asked] == [1, 1, 1, 1]


async def test_an_answer_that_is_left_ends_its_connection() -> None:
    stall = Stall()
    async with open_both(stream(b"one", stall)) as (upstream, transport):
        async with transport.open_stream("chat", HEADERS, b"{}") as chunks:
            assert await anext(aiter(chunks)) == b"one"
            upstream.gone.clear()
        await upstream.gone.wait()


async def test_cookies_are_not_kept() -> None:
    cookie = reply(b"{}", extra="set-cookie: a=b; Path=/\r\n")
    async with open_both(cookie) as (upstream, transport):
        await read(transport)
        await read(transport)
    assert [asked.headers.get("cookie") for asked in upstream.asked] == [None, None]


async def test_a_redirect_takes_the_key_nowhere() -> None:
    async with open_upstream(reply(b"")) as elsewhere:
        moved = reply(b"", status=307, extra=f"location: {elsewhere.url}/chat\r\n")
        async with open_both(moved) as (_, transport):
            error = await failure(transport)
    assert isinstance(error, ProviderFailed)
    assert "307" in error.message
    assert elsewhere.asked == []


async def test_what_comes_compressed_is_not_unpacked() -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    async with open_both(reply(bomb, extra="content-encoding: gzip\r\n")) as (_, transport):
        assert isinstance(await failure(transport), ProviderFailed)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, ProviderRefused), (401, ProviderDenied), (429, ProviderOverloaded)],
)
async def test_a_bad_status_is_an_error_on_entry(status: int, kind: type[UnifiedLlmError]) -> None:
    said = b'{"error":{"message":"Not so: sk-canary-0123456789."}}'
    refused = reply(said, status=status, extra="retry-after: 7\r\n")
    async with open_both(refused) as (_, transport):
        error = await failure(transport)
    assert type(error) is kind
    assert "canary" not in str(error)
    assert error.retry_after == (Seconds(7) if kind is ProviderOverloaded else None)


@pytest.mark.parametrize(
    "script",
    [
        [Cut()],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", Cut()],
        stream(b"one", Cut()),
        [*stream(b"one", is_whole=False), b"9\r\nhalf", Cut()],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", Cut()],
        [b"SSH-2.0-OpenSSH_9.2\r\n", Cut()],
        [b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n", Cut()],
        [b"\0" * 100, Cut()],
    ],
)
async def test_a_broken_connection_is_the_providers_failure(script: Script) -> None:
    async with open_both(script) as (_, transport):
        assert type(await failure(transport)) is ProviderFailed


async def test_nobody_there_means_that_nothing_was_sent() -> None:
    async with open_upstream(reply(b"")) as upstream:
        url = upstream.url
    async with open_transport(Address(url), KEY) as transport:
        error = await failure(transport)
    assert type(error) is ProviderDown
    assert os.strerror(111) in error.message


async def test_a_name_that_is_not_known_means_that_nothing_was_sent() -> None:
    async with open_transport(Address("http://no-such-host.invalid"), KEY) as transport:
        assert type(await failure(transport)) is ProviderDown


async def test_a_unix_socket_is_as_good_as_a_host(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with open_upstream(reply(b"here"), socket=path) as upstream:
        address = Address("http://localhost/v1", socket=path)
        async with open_transport(address, None) as transport:
            assert await transport.get("models", {}) == b"here"
    assert upstream.asked[0].path == "/v1/models"
    async with open_transport(address, None) as transport:
        assert type(await failure(transport)) is ProviderDown


async def test_a_proxy_of_the_settings_is_used_and_one_of_the_environment_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with open_both(reply(b"direct")) as (upstream, transport):
        assert await read(transport) == b"direct"
        address = Address("http://far.invalid/v1", proxy=upstream.url)
        async with open_transport(address, None) as through:
            assert await read(through) == b"direct"
    assert upstream.asked[1].path == "http://far.invalid/v1/chat"


async def test_bodies_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BODY_BYTES", 100)
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 200)
    async with open_both(reply(b"x" * 150), reply(b"x" * 250)) as (_, transport):
        with pytest.raises(ProviderFailed, match="100 bytes"):
            await transport.get("models", HEADERS)
        with pytest.raises(ProviderFailed, match="200 bytes"):
            await read(transport)


async def test_an_endless_error_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ERROR_BYTES", 100)
    async with open_both(reply(b"x" * 1000, status=400)) as (_, transport):
        assert type(await failure(transport)) is ProviderRefused


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that is its own authority, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    return certificate, key


async def test_tls_trusts_the_authorities_of_the_settings_and_no_others(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "ours")
    other, _ = make_certificate(tmp_path, "other")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with open_upstream(reply(b"safe"), tls=tls) as upstream:
        url = f"https://127.0.0.1:{upstream.port}"
        async with open_transport(Address(url, ca_file=certificate), None) as transport:
            assert await read(transport) == b"safe"
        for ca_file in (other, None):
            async with open_transport(Address(url, ca_file=ca_file), None) as transport:
                error = await failure(transport)
            assert type(error) is ProviderDown
            assert "certificate" in error.message
        await settle()  # the server's half of the refused handshakes


@pytest.mark.parametrize("content", [None, b"no certificate"])
async def test_a_file_without_authorities_is_told(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ProviderDown, match=r"ca\.pem"):
        async with open_transport(Address("https://x", ca_file=file), None):
            pytest.fail("opened")


async def test_no_failure_shows_the_key(caplog: pytest.LogCaptureFixture) -> None:
    """A canary: whatever goes wrong, the key is in no text, traceback, repr or log line."""
    caplog.set_level(logging.DEBUG)
    scripts: list[Script] = [
        [Cut()],
        [b"nonsense\r\n\r\n", Cut()],
        reply(b'{"error":{"message":"sk-canary-0123456789"}}', status=400),
        reply(b'{"error":{"message":"sk-canary-0123456789"}}', status=401),
        reply(b"sk-canary-0123456789", status=500),
        stream(b"x", Cut()),
    ]
    shown = []
    async with open_both(*scripts) as (_, transport):
        for _ in scripts:
            error = await failure(transport)
            group = ExceptionGroup("several", [error])
            shown += [repr(group), *traceback.format_exception(group)]
        shown += [repr(transport), repr(vars(transport))]
    async with open_transport(Address("http://127.0.0.1:1", connect=Seconds(1)), KEY) as transport:
        shown += traceback.format_exception(await failure(transport))
    assert "canary" not in "".join(shown) + caplog.text
