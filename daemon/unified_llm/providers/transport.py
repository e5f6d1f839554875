"""HTTP to one provider: the one door of this room to the network.

Rule 1: the key goes into a header and nowhere else; nothing of a header is ever logged or told.
That is why foreign exceptions are not kept as causes here: aiohttp's hold the request's headers,
and show them in their repr.
Rule 2: no redirect is followed and no cookie kept: either would send the key, or tell of one caller
to the next, where nobody has decided that it may go.
Rule 3: nothing is unpacked. We ask for no compression, and what comes compressed is refused, so a
small answer can not become a large one.
Rule 4: environment variables and .netrc decide nothing: proxies and keys are what the settings say.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from unified_llm.domain.errors import ProviderDown, ProviderFailed, UnifiedLlmError
from unified_llm.domain.secret import Secret
from unified_llm.domain.units import Seconds
from unified_llm.providers.faults import error_of_status, parse_retry_after, parse_said

MAX_ERROR_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
MAX_CONNECTIONS: Final = 256
# Shorter than the 5 s after which uvicorn, under vLLM, SGLang and others, closes an idle
# connection: a request sent just then is lost, and POST may not be sent again without asking.
KEEP_ALIVE_SECONDS: Final = 4.0

_HEADERS: Final = {
    "user-agent": "unified-llm",
    "accept-encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a provider is and how it is reached.

    url: with the path below which the API is, without a slash at its end.
    socket: a Unix socket that is connected to instead of the host of `url`.
    proxy: an HTTP proxy's URL. ca_file: trust these certificate authorities and no others.
    connect: longest wait for a connection, TLS included.
    """

    url: str
    socket: Path | None = None
    proxy: str | None = None
    ca_file: Path | None = None
    connect: Seconds = Seconds(5)


@asynccontextmanager
async def open_transport(address: Address, key: Secret | None) -> AsyncIterator["Transport"]:
    """A transport to `address`. Raises ProviderDown if its `ca_file` is of no use."""
    tls = await asyncio.to_thread(_tls_context, address.ca_file)
    proxy = None if address.proxy is None else httpx.Proxy(address.proxy)
    async with _session(address, tls) as session:
        through = AiohttpTransport(client=session, verify=tls, trust_env=False, proxy=proxy)
        yield Transport(address, through, key)


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ProviderDown(
            f"{ca_file} holds no certificate authorities that can be read: {error.strerror}.",
            hint="See `ca_file` under `providers` in the settings.",
        ) from error


def _session(address: Address, tls: ssl.SSLContext) -> aiohttp.ClientSession:
    connector: aiohttp.BaseConnector
    if address.socket is None:
        connector = aiohttp.TCPConnector(
            ssl=tls, limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS
        )
    else:
        connector = aiohttp.UnixConnector(
            str(address.socket), limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS
        )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    )


class Transport:
    """Requests to one provider over connections that are used again.

    They go to httpx's transport and not through its client: redirects, cookies, authentication and
    a log line for each request are the client's, and all of them would have to be turned off.
    """

    def __init__(
        self, address: Address, through: httpx.AsyncBaseTransport, key: Secret | None
    ) -> None:
        self._address = address
        self._through = through
        self._key = key
        # Deadlines of the answer are the caller's; these are of the connection.
        limits = httpx.Timeout(None, connect=address.connect, pool=2 * address.connect)
        self._limits = {"timeout": limits.as_dict()}

    async def get(self, path: str, headers: Mapping[str, str]) -> bytes:
        """The body at `path`. Raises ProviderDown and what a bad status means."""
        async with self._sent("GET", path, headers) as chunks:
            return await _bounded_body(chunks, MAX_BODY_BYTES)

    def open_stream(
        self, path: str, headers: Mapping[str, str], body: bytes
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """POST `body`; entered when the provider has begun to answer with status 200.

        Raises, on entry or while iterating, ProviderDown, and what a bad status or a broken
        connection means. Leaving closes the connection unless the answer has been read to its end.
        """
        return self._sent("POST", path, {**headers, "content-type": "application/json"}, body)

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator["_Chunks"]:
        try:
            request = httpx.Request(
                method,
                _url(self._address.url, path),
                headers={**_HEADERS, **headers},
                content=body,
                extensions=self._limits,
            )
            response = await self._through.handle_async_request(request)
        except _FOREIGN as error:
            raise _error_of(error, self._address) from None
        chunks = _Chunks(response, self._address)
        try:
            if response.status_code != httpx.codes.OK:
                raise await self._refusal(response, chunks)
            encoding = response.headers.get("content-encoding", "identity")
            if encoding != "identity":
                raise ProviderFailed("The provider's answer is compressed, and not as asked.")
            yield chunks
        finally:
            await chunks.aclose()

    async def _refusal(self, response: httpx.Response, chunks: "_Chunks") -> UnifiedLlmError:
        if response.is_redirect:
            return ProviderFailed(
                f"The provider answered with status {response.status_code}, a redirect. None is "
                "followed, as it would take the key elsewhere.",
                hint="The operator gives the right `url` under `providers` in the settings.",
            )
        try:
            said = parse_said(self._redacted(await _bounded_body(chunks, MAX_ERROR_BYTES)))
        except UnifiedLlmError:
            said = parse_said(b"")
        retry_after = parse_retry_after(response.headers)
        return error_of_status(response.status_code, said, retry_after)

    def _redacted(self, body: bytes) -> bytes:
        if self._key is None:
            return body
        return self._key.redacted(body.decode(errors="replace")).encode()


@lru_cache(maxsize=256)
def _url(address: str, path: str) -> httpx.URL:
    return httpx.URL(f"{address}/{path}")


class _Chunks:
    """The bytes of a body as they come, as one of our errors if they stop coming."""

    def __init__(self, response: httpx.Response, address: Address) -> None:
        self._response = response
        self._address = address
        self._chunks = aiter(response.aiter_raw())
        self._size = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except _FOREIGN as error:
            raise _error_of(error, self._address) from None
        self._size += len(chunk)
        if self._size > MAX_ANSWER_BYTES:
            raise ProviderFailed(f"The provider's answer is longer than {MAX_ANSWER_BYTES} bytes.")
        return chunk

    async def aclose(self) -> None:
        """End the connection, unless all of the body has been read."""
        await self._response.aclose()
        # httpx nests generators. One that is left half-way would be ended by a task that nobody
        # owns; now that the connection is closed, the next step ends them all.
        with suppress(StopAsyncIteration, *_FOREIGN):
            await anext(self._chunks)


async def _bounded_body(chunks: _Chunks, limit: int) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise ProviderFailed(f"The provider's answer is longer than {limit} bytes.")
    return bytes(body)


# What httpx's adapter lets through of aiohttp's own errors is caught as such.
_FOREIGN: Final = (
    httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, aiohttp.ClientError, OSError,
)  # fmt: skip
_NOT_CONNECTED: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
)


def _error_of(error: Exception, address: Address) -> UnifiedLlmError:
    # The adapter's classes do not tell whether the request was sent; aiohttp's own do.
    cause = error.__cause__ or error
    if isinstance(cause, _NOT_CONNECTED):
        return ProviderDown(f"The provider can not be reached: {_why(cause, address)}.")
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return ProviderFailed("The provider closed the connection instead of answering.")
    # The name of the class, as its text may hold anything that came over the line.
    return ProviderFailed(f"The connection to the provider broke ({type(cause).__name__}).")


def _why(cause: Exception, address: Address) -> str:
    match cause:
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {address.connect:g} s"
        case aiohttp.ClientConnectorDNSError():
            return "its name can not be resolved"
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not accepted"
        case aiohttp.ClientSSLError():
            return "TLS could not be agreed on"
        case aiohttp.ClientHttpProxyError(status=status):
            return f"the proxy answered with status {status}"
        case OSError(errno=int(number)):
            return os.strerror(number)
        case _:
            return "the connection failed"
