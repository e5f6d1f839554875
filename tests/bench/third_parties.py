"""Model servers that are not ours, behind our daemon as its providers: what comes through of each.

`python -m tests.bench.third_parties` takes a minute, and 12 more when llama-server has to be built
first. The servers are another unified-llm over its socket, llama-server, and the server that comes
with llama-cpp-python; all of them have the packaged model. One line for each server and question:
`yes` and what was seen, `refused` and the refusal that a client is told, or `NO` and what came
instead.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import openai

from tests.bench.llama_server import ensure_llama_server, open_llama_server
from tests.bench.peers import ensure_packages, free_port, open_peer
from tests.real_models import smollm2
from tests.whole_daemon import WholeDaemon, open_daemon

_CONTEXT_TOKENS: Final = 1024
_UNKNOWN: Final = "no-such-model"
_STORY: Final = "Write a very long story about a lighthouse keeper and her seven daughters."
_WEATHER: Final[Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "maxLength": 20}},
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}
_PYTHON_SERVER_PACKAGES: Final = (
    "pydantic-settings==2.7.1",
    "python-dotenv==1.0.1",
    "sse-starlette==2.2.1",
    "starlette-context==0.4.0",
)


@dataclass(frozen=True, slots=True)
class ThirdParty:
    """A server that runs. place: where it is, as the settings of a provider say it."""

    place: dict[str, str]
    process: int


@dataclass(frozen=True, slots=True)
class Behind:
    """One of them behind a daemon of ours. model: what the daemon calls the one it has listed."""

    party: ThirdParty
    daemon: WholeDaemon
    client: openai.OpenAI
    model: str

    def ask(self, text: str, **options: Any) -> Any:
        """As the official client asks."""
        messages: Any = [{"role": "user", "content": text}]
        options = {"model": self.model, "max_tokens": 16, **options}
        return self.client.chat.completions.create(messages=messages, **options)


class UnexpectedError(Exception):
    """What came is not what has to come."""


def ensure(*, is_so: object, otherwise: object) -> None:
    """Raise UnexpectedError with what was seen instead."""
    if not is_so:
        raise UnexpectedError(otherwise)


def check_models(behind: Behind) -> str:
    listed = [model.id for model in behind.client.models.list()]
    ensure(is_so=behind.model in listed, otherwise=listed)
    return behind.model


def check_plain(behind: Behind) -> str:
    answer = behind.ask("Name a color.")
    text = answer.choices[0].message.content
    ensure(is_so=text, otherwise=answer)
    return repr(text[:40])


def check_streamed(behind: Behind) -> str:
    with behind.ask("Name a color.", stream=True) as stream:
        choices = [chunk.choices[0] for chunk in stream if chunk.choices]
    pieces = [choice.delta.content for choice in choices if choice.delta.content]
    reason = choices[-1].finish_reason
    ensure(is_so=pieces and reason in {"stop", "length"}, otherwise=choices)
    return f"{len(pieces)} pieces, then {reason}"


def check_named_tool(behind: Behind) -> str:
    return _check_tools(behind, {"type": "function", "function": {"name": "get_weather"}})


def check_required_tool(behind: Behind) -> str:
    return _check_tools(behind, "required")


def _check_tools(behind: Behind, choice: object) -> str:
    options = {"tools": [_WEATHER], "tool_choice": choice, "max_tokens": 100}
    answer = behind.ask("What is the weather in Oslo?", **options).choices[0]
    calls = answer.message.tool_calls or []
    ensure(is_so=len(calls) == 1, otherwise=f"no call, but {answer.message.content!r:.60}")
    ensure(is_so=calls[0].function.name == "get_weather", otherwise=calls)
    arguments = json.loads(calls[0].function.arguments)
    ensure(is_so=isinstance(arguments.get("place"), str), otherwise=arguments)
    return f"one call with {arguments}, then {answer.finish_reason}"


def check_usage(behind: Behind) -> str:
    usage = behind.ask("Name a color.").usage
    ensure(is_so=usage and usage.prompt_tokens and usage.completion_tokens, otherwise=usage)
    return f"{usage.prompt_tokens} tokens of the prompt, {usage.completion_tokens} of the answer"


def check_wrong_model(behind: Behind) -> str:
    try:
        behind.ask("Hello", model=f"named/{_UNKNOWN}")
    except openai.APIStatusError as error:
        body: Any = error.body
        ensure(is_so=body["code"] in {"provider-refused", "unknown-model"}, otherwise=body)
        return f"{error.status_code} {body['code']}: {body['message']}"
    return "answered all the same: it has one model, and calls it whatever it is called"


def check_killed(behind: Behind) -> str:
    """Ends the server."""
    asked = {"model": behind.model, "stream": True, "max_tokens": 800}
    asked["messages"] = [{"role": "user", "content": _STORY}]
    seen: list[str] = []
    with (
        behind.daemon.open_http() as http,
        http.stream("POST", "/v1/chat/completions", json=asked) as response,
    ):
        for line in response.iter_lines():
            if line.startswith("data: "):
                seen.append(line)
                if len(seen) == 3:  # the role and two pieces
                    os.kill(behind.party.process, signal.SIGKILL)
    failures = [json.loads(line[6:])["error"] for line in seen if '"error"' in line]
    is_so = len(failures) == 1 and '"error"' in seen[-1] and not any("[DONE]" in x for x in seen)
    ensure(is_so=is_so, otherwise=seen[-3:])
    return f"{failures[0]['code']} after {len(seen) - 2} pieces: {failures[0]['message']}"


CHECKS: Final[dict[str, Callable[[Behind], str]]] = {
    "models listed": check_models,
    "plain answer": check_plain,
    "streamed answer": check_streamed,
    "tool by name": check_named_tool,
    "tool required": check_required_tool,
    "usage": check_usage,
    "wrong model": check_wrong_model,
    "killed mid-stream": check_killed,
}


@contextmanager
def open_unified_llm() -> Iterator[ThirdParty]:
    placed = {"path": str(smollm2()), "context_tokens": _CONTEXT_TOKENS, "threads": 1, "slots": 1}
    models = {"directory": None, "smollm2": placed}
    with open_daemon({"models": models, "worker": {"engine": "llama"}}, with_bus=False) as daemon:
        yield ThirdParty({"socket": str(daemon.socket_path)}, daemon.process.pid)


@contextmanager
def open_llama_cpp() -> Iterator[ThirdParty]:
    options = {"slots": 1, "context_tokens": _CONTEXT_TOKENS, "threads": 1}
    with open_llama_server(smollm2(), **options) as server:
        yield ThirdParty({"url": f"http://127.0.0.1:{server.port}/v1"}, server.process)


@contextmanager
def open_python_server() -> Iterator[ThirdParty]:
    """The server of the installed llama-cpp-python, with the packages that only it needs."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", str(port)),
        *("--model", str(smollm2()), "--model_alias", "smollm2"),
        *("--n_ctx", str(_CONTEXT_TOKENS), "--n_threads", "1"),
    ]
    packages = {"PYTHONPATH": str(ensure_packages("llama-cpp-server", *_PYTHON_SERVER_PACKAGES))}
    with open_peer(command, port, "/v1/models", packages) as server:
        yield ThirdParty({"url": f"http://127.0.0.1:{port}/v1"}, server.process)


THIRD_PARTIES: Final[dict[str, Callable[[], AbstractContextManager[ThirdParty]]]] = {
    "unified-llm": open_unified_llm,
    "llama-server": open_llama_cpp,
    "llama_cpp.server": open_python_server,
}


@contextmanager
def open_behind(party: ThirdParty) -> Iterator[Behind]:
    """A daemon of ours that has `party` as a provider twice: as it lists itself, and misnamed."""
    place = {"kind": "openai-compatible", **party.place}
    providers = {"far": place, "named": {**place, "models": [_UNKNOWN]}}
    with (
        open_daemon({"providers": providers}, with_bus=False) as daemon,
        daemon.open_openai() as client,
    ):
        yield Behind(party, daemon, client, _listed(client))


def _listed(client: openai.OpenAI) -> str:
    """The daemon asks its providers for their models once it is up."""
    while True:
        for model in client.models.list():
            if model.id.startswith("far/"):
                return model.id


def _verdict(check: Callable[[Behind], str], behind: Behind) -> str:
    try:
        return f"yes      {check(behind)}"
    except openai.BadRequestError as error:
        return f"refused  {error.body}"
    except (UnexpectedError, openai.OpenAIError) as error:
        return f"NO       {error}"


def main() -> None:
    ensure_llama_server()
    for name, open_party in THIRD_PARTIES.items():
        with open_party() as party, open_behind(party) as behind:
            print(name)
            for question, check in CHECKS.items():
                print(f"  {question:18} {_verdict(check, behind)}", flush=True)


if __name__ == "__main__":
    main()
