"""`POST /v1/models/{id}/plan`, over a real socket."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.house import TINY, make_spec
from tests.unit.planner.test_fit import llama
from tests.unit.surfaces.http.door import OpenDoor, open_door
from unified_llm.domain.models import ModelId
from unified_llm.wire.native import PlanBody, decode_body

GIB = 2**30


async def post_plan(door: OpenDoor, model: str = TINY, **fields: Any) -> Any:
    specs = [replace(make_spec(ModelId(name)), profile=llama()) for name in (TINY, "with/slash:4b")]
    door.house.models.replace_catalogue({spec.id: spec for spec in specs})
    async with door.client() as client:
        return await client.post(f"/v1/models/{model}/plan", json=fields)


async def test_a_plan_names_every_part_and_no_file(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        answer = await post_plan(door, ram_bytes=2 * GIB, gpu_bytes=[7 * GIB], slots=4)
    assert answer.status_code == 200
    body = decode_body(PlanBody, answer.content)
    assert (body.model, body.slots, body.layers) == (TINY, 4, 32)
    assert [(device.name, device.layers) for device in body.devices] == [("RAM", 0), ("GPU 0", 32)]
    assert sum(part.bytes for part in body.parts) == body.total_bytes
    assert ".gguf" not in answer.text


async def test_an_id_may_hold_a_slash(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        answer = await post_plan(door, "with/slash:4b", ram_bytes=64 * GIB)
    assert answer.json()["model"] == "with/slash:4b"


async def test_what_does_not_fit_is_refused_with_the_numbers(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        answer = await post_plan(door, ram_bytes=GIB)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "no-room")
    assert "1.0 GiB of RAM" in error["message"]


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"context": 1}, "context"),
        ({"slots": "four"}, "slots"),
        ({"gpu_bytes": [-1]}, "gpu_bytes[0]"),
        ({"cache_type": "q3_x"}, "cache_type"),
    ],
)
async def test_a_wrong_field_is_named(
    tmp_path: Path, fields: dict[str, Any], parameter: str
) -> None:
    async with open_door(tmp_path) as door:
        answer = await post_plan(door, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == parameter


async def test_an_unknown_model_is_a_404(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        answer = await post_plan(door, "nobody")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown-model")
