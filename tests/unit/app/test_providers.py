"""Providers are opened as the settings say; one that can not be used is off, and said to be."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.fakes.timers import FakeTimers
from tests.fakes.upstream import Script, open_upstream, reply, stream
from tests.unit.fleet.asking import CALLER, request
from unified_llm.app.providers import Providers, open_providers
from unified_llm.domain.chat import ReasoningDelta
from unified_llm.domain.models import ModelId
from unified_llm.domain.providers import RemoteModel
from unified_llm.settings.load import parse_settings

EXCHANGES = Path(__file__).parents[2] / "exchanges"
LISTED = reply(b'{"data":[{"id":"a","max_model_len":4096},{"id":"no id at all!"}]}')


class KeptModels:
    """Stands for operations.models.Models, which needs the whole house."""

    def __init__(self) -> None:
        self.models: dict[ModelId, RemoteModel] = {}
        self.told = asyncio.Event()
        self.times = 0

    def replace_remote(self, models: Mapping[ModelId, RemoteModel]) -> None:
        self.models = dict(models)
        self.times += 1
        if self.times == 2:
            self.told.set()


@asynccontextmanager
async def opened(
    sections: Mapping[str, object], credentials: Path | None = None
) -> AsyncIterator[Providers]:
    settings = parse_settings(json.dumps({"providers": sections}).encode(), source="test")
    async with open_providers(settings.providers, credentials, FakeTimers()) as providers:
        yield providers


async def asked(providers: Providers) -> KeptModels:
    """What is told once every provider has been asked."""
    kept = KeptModels()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(providers.run(kept))
        await kept.told.wait()
        running.cancel()
    return kept


def compatible(url: str, **more: object) -> dict[str, object]:
    return {"kind": "openai-compatible", "url": url, **more}


async def test_models_that_are_named_are_there_without_asking() -> None:
    section = {"deepseek": {"kind": "deepseek", "models": ["deepseek-chat"]}}
    async with opened(section) as providers:
        kept = KeptModels()
        await providers.run(kept)
        (model,) = kept.models.values()
    assert (model.id, model.provider, model.name) == (
        "deepseek/deepseek-chat",
        "deepseek",
        "deepseek-chat",
    )
    assert model.is_on
    assert providers.complaints() == ()


async def test_a_provider_is_asked_which_models_it_has() -> None:
    async with open_upstream(LISTED) as upstream, opened({"far": compatible(upstream.url)}) as far:
        kept = await asked(far)
    (model,) = kept.models.values()
    assert (model.id, model.context_tokens) == ("far/a", 4096)


async def test_one_that_does_not_answer_is_a_complaint_and_stops_no_other() -> None:
    broken: Script = reply(b"", status=500)
    async with (
        open_upstream(LISTED) as good,
        open_upstream(broken) as bad,
        opened({"bad": compatible(bad.url), "good": compatible(good.url)}) as providers,
    ):
        kept = await asked(providers)
        (complaint,) = providers.complaints()
    assert list(kept.models) == ["good/a"]
    assert complaint.startswith("models are not known: Provider bad: ")


async def test_a_missing_key_turns_a_provider_off_and_says_so(tmp_path: Path) -> None:
    section = {"deepseek": {"kind": "deepseek", "key": "deepseek-key", "models": ["m"]}}
    async with opened(section, tmp_path) as providers:
        kept = KeptModels()
        await providers.run(kept)
        assert providers.backends() == {}
        (complaint,) = providers.complaints()
    assert complaint == "provider deepseek is off: credential deepseek-key is missing"
    assert not kept.models[ModelId("deepseek/m")].is_on


async def test_a_file_of_authorities_that_is_not_there_turns_it_off(tmp_path: Path) -> None:
    section = {"far": compatible("https://far.invalid", ca_file=str(tmp_path / "ca.pem"))}
    async with opened(section) as providers:
        (complaint,) = providers.complaints()
    assert complaint.startswith("provider far is off: ")


async def test_the_key_comes_from_its_credential(tmp_path: Path) -> None:
    (tmp_path / "far").write_text("sk-1\n")
    async with (
        open_upstream(LISTED) as upstream,
        opened({"far": compatible(upstream.url, key="far")}, tmp_path) as providers,
    ):
        await asked(providers)
        assert "sk-1" not in repr(providers)
    assert upstream.asked[0].headers["authorization"] == "Bearer sk-1"


async def test_a_summary_of_what_is_thought_is_asked_for_as_it_is_set() -> None:
    body = (EXCHANGES / "openai-responses.sse").read_bytes()
    async with open_upstream(stream(body)) as upstream:
        far = {"kind": "openai-responses", "url": upstream.url, "models": ["m"]}
        async with (
            opened({"far": {**far, "reasoning_summary": True}}) as providers,
            providers.on["far"].chat(request("Sky?", model=ModelId("far/m")), CALLER) as events,
        ):
            heard = [event async for event in events]
    thought = "".join(event.text for event in heard if isinstance(event, ReasoningDelta))
    assert thought == "Short waves scatter."
    assert json.loads(upstream.asked[0].body)["reasoning"] == {"summary": "auto"}
