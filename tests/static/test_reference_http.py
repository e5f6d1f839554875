"""docs/reference/http.md names every route, field, limit and refusal of the HTTP door."""

import json
import re
from dataclasses import fields
from typing import Any, cast

import pytest
from fastapi.routing import APIRoute

from tests.static.places import REPOSITORY
from unified_llm.surfaces.http.app import create_app
from unified_llm.surfaces.http.limits import HttpLimits
from unified_llm.wire.fields import MAX_DEPTH, MAX_VALUES
from unified_llm.wire.openai import ChatCompletionShape
from unified_llm.wire.problem import DoorCode

PAGE = (REPOSITORY / "docs" / "reference" / "http.md").read_text()
NOT_A_LIMIT_OF_CLIENTS = {"flush_seconds"}


def test_every_route_is_there_and_no_other() -> None:
    # Only the routing table is read: nothing is asked of the operations.
    nobody = cast(Any, None)
    app = create_app(*[nobody] * 7, version="0")
    routes = {
        f"{method} {route.path.replace(':path', '')}"
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", PAGE, re.MULTILINE)) == routes
    assert set(app.openapi()["paths"]) == {route.split()[1] for route in routes}


def test_the_openapi_document_refers_to_nothing_it_lacks() -> None:
    nobody = cast(Any, None)
    document = create_app(*[nobody] * 7, version="0").openapi()
    wanted = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert "MessageShape" in wanted
    assert wanted <= set(document["components"]["schemas"])


@pytest.mark.parametrize("field", ChatCompletionShape.model_fields)
def test_every_field_of_a_chat_is_there(field: str) -> None:
    assert f"`{field}`" in PAGE


@pytest.mark.parametrize("limit", [field.name for field in fields(HttpLimits)])
def test_every_limit_is_there(limit: str) -> None:
    if limit not in NOT_A_LIMIT_OF_CLIENTS:
        assert re.search(rf"\b{getattr(HttpLimits(), limit):g}\b", PAGE) or (
            f" {getattr(HttpLimits(), limit)} " in PAGE
        )


def test_the_limits_of_json_are_there() -> None:
    assert f"at most {MAX_DEPTH}\ndeep" in PAGE
    assert f"{MAX_VALUES} brackets" in PAGE


@pytest.mark.parametrize("code", DoorCode)
def test_every_refusal_of_the_door_is_there(code: DoorCode) -> None:
    assert f"`{code}`" in PAGE
