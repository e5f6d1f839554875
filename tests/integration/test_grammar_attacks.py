"""Schemas that killed workers elsewhere, and two thousand drawn ones: a worker outlives them all.

The worker is a process of its own, so that one that dies is a failure of this test and not its end.
"""

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.generated_schemas import SchemaDraw
from tests.integration.test_worker_process import WorkerProcess, generate, open_worker, text_of
from tests.tiny_gguf import write_tiny_gguf
from unified_llm.domain.chat import JsonAnswer, Sampling
from unified_llm.domain.errors import InvalidRequest
from unified_llm.worker.protocol import Done, Failed, FromWorker

pytestmark = pytest.mark.slow

_DRAWN = 2000
_AT_ONCE = 16
_TOKENS = 8

Schema = dict[str, Any]


def nested(depth: int, kind: str) -> Schema:
    schema: Schema = {"type": "string"}
    for _ in range(depth):
        inner = {"properties": {"a": schema}} if kind == "object" else {"items": schema}
        schema = {"type": kind, **inner}
    return schema


def counted(most: int) -> Schema:
    inner = {"type": "array", "items": {"type": "integer"}, "maxItems": most}
    return {"type": "array", "items": inner, "maxItems": most}


_PATTERNS = (
    '("a"{0,50}){0,50}', "^(a{0,50}){0,50}$", f"^{'(' * 5000}a{')' * 5000}$", "^(?<=x)a$", "^*$",
    "^a{2147483647}$", "^[z-a]$", r"^\p{L}+$", "(", "^(a|a)*$", "^([a-z]{1,9}x?){1,56}$",
    "^(.{0,20}a){0,25}$", "a.*b.*c.*d",
)  # fmt: skip

ATTACKS: tuple[Schema, ...] = (
    *({"type": "string", "maxLength": n} for n in (1, 999, 1000, 1001, 1023, 1500, 5000, 2**63)),
    *({"type": "string", "minLength": n} for n in (999, 1023, 2**31)),
    *({"type": "string", "pattern": pattern} for pattern in _PATTERNS),
    *(nested(depth, kind) for depth in (30, 33, 50) for kind in ("object", "array")),
    *(counted(most) for most in (5, 50, 300, 1000, 5000)),
    *(
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(count)}}
        for count in (48, 128, 300)
    ),
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}}},
    },
    {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    {"enum": ["x" * 60_000]},
    {"const": '\x00\u2028\\"]}){0,9}'},
    {"type": "object", "properties": {'"){9999} ::= root': {"const": 'a" root'}}},
    {"anyOf": [{"const": "a" * n} for n in range(300)]},
    {"type": "number", "minimum": -1e19, "exclusiveMaximum": 1.5e-19},
)


def answers(
    worker: WorkerProcess, schemas: list[object], *, max_tokens: int = _TOKENS
) -> list[list[FromWorker]]:
    found: list[list[FromWorker]] = []
    for start in range(0, len(schemas), _AT_ONCE):
        requests = {
            start + offset: msgspec.structs.replace(
                generate(start + offset, "go", max_tokens=max_tokens),
                sampling=Sampling(temperature=1.5, seed=start + offset),
                answer=JsonAnswer(json.dumps(schema)),
            )
            for offset, schema in enumerate(schemas[start : start + _AT_ONCE])
        }
        worker.send(*requests.values())
        found += worker.answers(*requests).values()
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "tiny.gguf")


def test_no_attack_kills_the_worker_and_each_is_answered(model: Path) -> None:
    with open_worker("llama") as worker:
        worker.load(model)
        for schema, messages in zip(ATTACKS, answers(worker, [*ATTACKS]), strict=True):
            end = messages[-1]
            if isinstance(end, Failed):
                assert end.code == InvalidRequest.code, (schema, end)
            else:
                assert isinstance(end, Done)
        assert worker.child.poll() is None


def test_drawn_schemas_are_all_answered_by_their_form(model: Path) -> None:
    schemas: list[object] = [SchemaDraw(random.Random(number)).schema() for number in range(_DRAWN)]
    with open_worker("llama") as worker:
        worker.load(model)
        ended = 0
        for schema, messages in zip(schemas, answers(worker, schemas), strict=True):
            end = messages[-1]
            assert isinstance(end, Done), (schema, end)
            assert end.completion_tokens <= _TOKENS
            if end.reason == "stop":
                json.loads(text_of(messages))
                ended += 1
        assert ended > _DRAWN / 10
        assert worker.child.poll() is None
