"""The routes: HTTP to operations and back, and nothing else."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from unified_llm.domain.events import ModelStatus
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.providers import RemoteModel
from unified_llm.operations.embedding import Embedding
from unified_llm.operations.gate import new_request_id
from unified_llm.operations.inference import Inference
from unified_llm.operations.library import Library
from unified_llm.operations.models import Models, ModelView
from unified_llm.operations.routes import Routes
from unified_llm.operations.spending import Spending
from unified_llm.operations.status import Status
from unified_llm.surfaces.http.connections import Peer
from unified_llm.surfaces.http.faults import REQUEST_ID_HEADER, error_response, problem_response
from unified_llm.surfaces.http.limits import HttpLimits
from unified_llm.surfaces.http.plans import plan_body, plan_question
from unified_llm.surfaces.http.protocol import PEER_KEY
from unified_llm.surfaces.http.routes import explanation_body, route_question
from unified_llm.surfaces.http.spending import parse_days, spending_body
from unified_llm.surfaces.http.status import health_body, scan_body, status_body
from unified_llm.surfaces.http.stream import ChatStream, read_to_end
from unified_llm.wire import native
from unified_llm.wire.fields import Shape
from unified_llm.wire.openai import ChatCompletionShape, parse_chat
from unified_llm.wire.openai_answers import CompletionWriter, encode_model, encode_models
from unified_llm.wire.openai_embeddings import (
    EmbeddingsShape,
    encode_embeddings,
    parse_embeddings,
)
from unified_llm.wire.problem import INVALID, DoorCode, HttpProblem
from unified_llm.wire.rerank import RerankShape, encode_ranking, parse_rerank

# Nobody is there to read it; uvicorn only wants to see that something was sent.
_UNREAD = 499


def _unix_time() -> int:
    return int(datetime.now(UTC).timestamp())


def create_app(
    inference: Inference,
    embedding: Embedding,
    models: Models,
    library: Library,
    status: Status,
    routes: Routes,
    spending: Spending,
    *,
    version: str,
    limits: HttpLimits | None = None,
    unix_time: Callable[[], int] = _unix_time,
) -> FastAPI:
    """The application that `HttpDoor` serves; it needs the Peer that our protocol puts in scope."""
    answers = _Routes(
        inference,
        embedding,
        models,
        library,
        status,
        routes,
        spending,
        limits or HttpLimits(),
        unix_time,
    )
    app = _Api(
        title="unified-llm",
        version=version,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.router.route_class = _Route
    # Routes are tried in this order, so the one that is asked most comes first.
    _add(app, "POST", "/v1/chat/completions", answers.create_chat_completion, _CHAT_BODY)
    _add(app, "GET", "/health", answers.health)
    _add(app, "GET", "/v1/status", answers.report)
    _add(app, "GET", "/v1/models", answers.list_models)
    _add(app, "POST", "/v1/models/scan", answers.scan_models)
    _add(app, "GET", "/v1/models/{model:path}", answers.get_model)
    _add(app, "POST", "/v1/models/{model:path}/plan", answers.plan_model, _PLAN_BODY)
    _add(app, "GET", "/v1/usage", answers.report_usage)
    _add(app, "POST", "/v1/routes/explain", answers.explain_route, _EXPLAIN_BODY)
    _add(app, "POST", "/v1/embeddings", answers.create_embeddings, _body_of(EmbeddingsShape))
    _add(app, "POST", "/v1/rerank", answers.rerank, _body_of(RerankShape))
    return app


class _Route(APIRoute):
    """What FastAPI describes and starlette answers.

    The endpoints read their own requests and make their own responses, so that FastAPI's way to
    them (dependencies, three exit stacks, two layers that look for exceptions) had nothing to do.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = self._respond

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response: Response = await self.endpoint(request, **request.path_params)
        await response(scope, receive, send)


class _Api(FastAPI):
    def build_middleware_stack(self) -> ASGIApp:
        """What turns starlette's refusals into ours; everything else happens in the endpoints."""
        return ExceptionMiddleware(self.router, handlers={HTTPException: _no_such_route})

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, with the shapes of bodies that we parse ourselves."""
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {}).update(_SHAPES)
        return document


_CHAT_SCHEMA = ChatCompletionShape.model_json_schema(ref_template="#/components/schemas/{model}")
_SHAPES = _CHAT_SCHEMA.pop("$defs")
_CHAT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _CHAT_SCHEMA}},
    }
}

_PLAN_BODY: dict[str, Any] = {
    "requestBody": {
        "content": {"application/json": {"schema": native.PlanShape.model_json_schema()}},
    }
}


_EXPLAIN_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": native.ExplainShape.model_json_schema()}},
    }
}


def _body_of(shape: type[Shape]) -> dict[str, Any]:
    """The document's word for a body that is a `shape`, which has no shapes inside."""
    content = {"application/json": {"schema": shape.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def _add(
    app: FastAPI,
    method: str,
    path: str,
    endpoint: Callable[..., Any],
    extra: dict[str, Any] | None = None,
) -> None:
    # The routes make their own responses: FastAPI neither validates nor serialises anything.
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        response_model=None,
        response_class=Response,
        openapi_extra=extra,
    )


@dataclass(frozen=True, slots=True)
class _Routes:
    """One method per route."""

    operations: Inference
    embedding: Embedding
    catalogue: Models
    library: Library
    condition: Status
    named: Routes
    money: Spending
    limits: HttpLimits
    unix_time: Callable[[], int]

    async def health(self, request: Request) -> Response:
        """Whether requests are taken: 200 if so, else 503; needs no right."""
        health = self.condition.health()
        body = native.encode_body(health_body(health))
        return _json(body, new_request_id(), status=200 if health.ready else 503)

    async def report(self, request: Request) -> Response:
        """How the daemon is, at a glance."""
        caller = _peer(request).caller
        request_id = new_request_id()
        try:
            report = await self.condition.report(caller)
        except Exception as error:  # noqa: BLE001  the client is told, and the log if it is a bug
            return error_response(error, request_id)
        return _json(native.encode_body(status_body(report)), request_id)

    async def list_models(self, request: Request) -> Response:
        """All models, in OpenAI's shape."""
        caller = _peer(request).caller
        return _answer(
            lambda: encode_models(map(_parts, self.catalogue.list(caller)), self.named.list(caller))
        )

    async def get_model(self, request: Request, model: str) -> Response:
        """One model, in OpenAI's shape."""
        caller = _peer(request).caller

        def body() -> bytes:
            view = self.catalogue.get(caller, ModelId(model))
            return encode_model(*_parts(view), view.adapter)

        return _answer(body)

    async def scan_models(self, request: Request) -> Response:
        """Look for models on disk again; answered when that is done."""
        request_id, caller = new_request_id(), _peer(request).caller
        try:
            report = await self.library.scan(caller)
        except Exception as error:  # noqa: BLE001  the client is told, and the log if it is a bug
            return error_response(error, request_id)
        return _json(native.encode_body(scan_body(report)), request_id)

    async def plan_model(self, request: Request, model: str) -> Response:
        """How a model would be run and laid out, without loading it."""
        request_id, caller = new_request_id(), _peer(request).caller
        try:
            asked = native.parse_plan(await request.body())
            report = await self.catalogue.plan(caller, ModelId(model), plan_question(asked))
        except ClientDisconnect:
            return Response(status_code=_UNREAD)
        except Exception as error:  # noqa: BLE001  the client is told, and the log if it is a bug
            return error_response(error, request_id)
        return _json(native.encode_body(plan_body(ModelId(model), report)), request_id)

    async def explain_route(self, request: Request) -> Response:
        """Who would be asked for a request, and why; nobody is."""
        request_id, caller = new_request_id(), _peer(request).caller
        try:
            asked = native.parse_explain(await request.body())
            model = ModelId(asked.model)
            found = await self.named.explain(caller, model, route_question(asked))
        except ClientDisconnect:
            return Response(status_code=_UNREAD)
        except Exception as error:  # noqa: BLE001  the client is told, and the log if it is a bug
            return error_response(error, request_id)
        return _json(native.encode_body(explanation_body(model, found)), request_id)

    async def report_usage(self, request: Request) -> Response:
        """What was used by day and model, and what it cost."""
        request_id, caller = new_request_id(), _peer(request).caller
        try:
            report = await self.money.report(caller, parse_days(request.query_params.get("days")))
        except Exception as error:  # noqa: BLE001  the client is told, and the log if it is a bug
            return error_response(error, request_id)
        return _json(native.encode_body(spending_body(report)), request_id)

    async def create_chat_completion(self, request: Request) -> Response:
        """The next message of a conversation, in OpenAI's shape; streamed if `stream` is true."""
        request_id, peer = new_request_id(), _peer(request)
        try:
            asked = parse_chat(await request.body())
            writer = CompletionWriter(
                request_id,
                asked.request.model,
                self.unix_time(),
                wants_usage=asked.wants_usage,
            )
            chat = self.operations.open_chat(
                peer.caller, asked.request, request_id=request_id, scope=peer.open_scope()
            )
            if asked.is_stream:
                return ChatStream(chat, writer, peer, self.limits, request_id)
            answer = await read_to_end(chat)
        except ClientDisconnect:
            return Response(status_code=_UNREAD)
        except Exception as error:  # noqa: BLE001  the client is told, and the log if it is a bug
            return error_response(error, request_id)
        return _json(writer.whole(answer), request_id)

    async def create_embeddings(self, request: Request) -> Response:
        """A vector of each text, in OpenAI's shape."""
        request_id, peer = new_request_id(), _peer(request)
        try:
            asked = parse_embeddings(await request.body())
            found = await self.embedding.embed(
                peer.caller, asked.request, request_id=request_id, scope=peer.open_scope()
            )
            body = await _gather(encode_embeddings(asked, found))
        except ClientDisconnect:
            return Response(status_code=_UNREAD)
        except Exception as error:  # noqa: BLE001  the client is told, and the log if it is a bug
            return error_response(error, request_id)
        return _json(body, request_id)

    async def rerank(self, request: Request) -> Response:
        """Documents in the order of how well they answer a query, in Jina's and Cohere's shape."""
        request_id, peer = new_request_id(), _peer(request)
        try:
            asked = parse_rerank(await request.body())
            ranking = await self.embedding.rerank(
                peer.caller, asked.request, request_id=request_id, scope=peer.open_scope()
            )
            body = encode_ranking(asked, ranking, request_id)
        except ClientDisconnect:
            return Response(status_code=_UNREAD)
        except Exception as error:  # noqa: BLE001  the client is told, and the log if it is a bug
            return error_response(error, request_id)
        return _json(body, request_id)


async def _gather(pieces: Iterator[bytes]) -> bytes:
    """All pieces in one, with a breath for others after each: a million numbers take a while."""
    body = bytearray()
    for piece in pieces:
        body += piece
        await asyncio.sleep(0)
    return bytes(body)


def _peer(request: Request) -> Peer:
    peer = request.scope["state"][PEER_KEY]
    if not isinstance(peer, Peer):
        raise TypeError("the scope has no identity")
    return peer


def _answer(make_body: Callable[[], bytes]) -> Response:
    request_id = new_request_id()
    try:
        return _json(make_body(), request_id)
    except Exception as error:  # noqa: BLE001  the client is told, and the log if it is a bug
        return error_response(error, request_id)


def _json(body: bytes, request_id: str, *, status: int = 200) -> Response:
    return Response(body, status, {REQUEST_ID_HEADER: request_id}, "application/json")


async def _no_such_route(request: Request, error: Exception) -> Response:
    """Starlette's own refusals (404 and 405) in OpenAI's shape."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, message = (
        DoorCode.UNKNOWN_ROUTE,
        "There is no such route; docs/reference/http.md lists them.",
    )
    if status == 405:
        code, message = DoorCode.METHOD_NOT_ALLOWED, "This route is not used with that method."
    return problem_response(HttpProblem(status, INVALID, code, message), new_request_id())


def _parts(view: ModelView) -> tuple[ModelSpec | RemoteModel, ModelStatus]:
    return view.spec, view.status
