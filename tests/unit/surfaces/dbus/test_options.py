"""What peers put into the a{sv} of a verb is accepted, or refused by name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.house import TINY
from unified_llm.bus.values import Variant
from unified_llm.domain.chat import JsonAnswer, Message, Role, Sampling
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.sampling import NUMBERS
from unified_llm.surfaces.dbus.options import (
    GenerateOptions,
    GenerateTextOptions,
    NoOptions,
    parse_messages,
    parse_options,
)

INTEGERS = {"y": (0, 255), "n": (-(2**15), 2**15 - 1), "q": (0, 2**16 - 1)} | {
    "i": (-(2**31), 2**31 - 1),
    "u": (0, 2**32 - 1),
    "x": (-(2**63), 2**63 - 1),
    "t": (0, 2**64 - 1),
}


def variants() -> st.SearchStrategy[Variant]:
    """Any variant that the bus could deliver, of the types that matter here and some others."""
    integers = [
        st.builds(Variant, st.just(signature), st.integers(least, most))
        for signature, (least, most) in INTEGERS.items()
    ]
    simple = [
        st.booleans().map(lambda value: Variant("b", value)),
        st.floats().map(lambda value: Variant("d", value)),
        st.text().map(lambda value: Variant("s", value)),
        st.lists(st.text(), max_size=5).map(lambda value: Variant("as", value)),
        st.lists(st.integers(0, 9), max_size=3).map(lambda value: Variant("au", value)),
        st.dictionaries(st.integers(0, 9), st.floats()).map(lambda value: Variant("a{ud}", value)),
        st.tuples(st.text(), st.text()).map(lambda value: Variant("(ss)", list(value))),
        st.text().map(lambda value: Variant("v", Variant("s", value))),
    ]
    return st.one_of(*integers, *simple)


def keys() -> st.SearchStrategy[str]:
    return st.sampled_from(sorted(GenerateTextOptions.model_fields)) | st.text()


@pytest.mark.slow
@given(given=st.dictionaries(keys(), variants(), max_size=4))
@pytest.mark.parametrize("kind", [NoOptions, GenerateOptions, GenerateTextOptions])
def test_whatever_a_peer_sends_is_taken_or_refused_by_name(
    kind: type[NoOptions], given: dict[str, Variant]
) -> None:
    try:
        options = parse_options(kind, given)
    except InvalidRequest as error:
        refused = error.parameter
    else:
        assert options.model_fields_set == given.keys()
        return
    assert refused is not None
    assert any(key.startswith(refused.rstrip("…")) for key in given)


@pytest.mark.parametrize("signature", INTEGERS)
def test_a_number_may_have_any_integer_type(signature: str) -> None:
    chosen = parse_options(
        GenerateOptions, {"max_tokens": Variant(signature, 7), "top_p": Variant(signature, 1)}
    )
    assert (chosen.max_tokens, chosen.top_p) == (7, 1.0)


def test_all_options_reach_the_request() -> None:
    given: dict[str, Any] = {
        "max_tokens": Variant("u", 10),
        "temperature": Variant("d", 0.5),
        "top_p": Variant("d", 0.9),
        "top_k": Variant("i", 40),
        "min_p": Variant("d", 0.1),
        "typical_p": Variant("d", 0.2),
        "repeat_penalty": Variant("d", 1.1),
        "repeat_last_n": Variant("u", 32),
        "frequency_penalty": Variant("i", -1),
        "presence_penalty": Variant("d", 0.25),
        "dry_multiplier": Variant("d", 0.8),
        "dry_base": Variant("u", 2),
        "dry_allowed_length": Variant("u", 3),
        "dry_penalty_last_n": Variant("u", 100),
        "xtc_probability": Variant("d", 0.5),
        "xtc_threshold": Variant("d", 0.3),
        "mirostat": Variant("u", 2),
        "mirostat_tau": Variant("d", 4.0),
        "mirostat_eta": Variant("d", 0.2),
        "seed": Variant("t", 2**32 - 2),
        "top_logprobs": Variant("u", 3),
        "n": Variant("u", 2),
        "logit_bias": Variant("a{ud}", {7: -100.0}),
        "ignore_eos": Variant("b", True),
        "stop": Variant("as", ["a", "b"]),
        "json_schema": Variant("s", '{"type": "object"}'),
        "local_only": Variant("b", True),
        "continue": Variant("b", True),
    }
    fields = GenerateOptions.model_fields.items()
    assert given.keys() == {field.alias or name for name, field in fields}
    messages = (Message(Role.USER, "hello"),)
    request = parse_options(GenerateOptions, given).request(TINY, messages)
    assert (request.model, request.messages) == (TINY, messages)
    assert (request.max_tokens, request.stop, request.top_logprobs) == (10, ("a", "b"), 3)
    assert request.choices == 2
    numbers = {name: given[name].value for name in NUMBERS}
    assert request.sampling == Sampling(**numbers, logit_bias=((7, -100.0),), ignore_eos=True)
    assert request.answer == JsonAnswer('{"type": "object"}')
    assert request.local_only
    assert request.may_continue


def test_an_empty_schema_stands_for_any_object() -> None:
    options = parse_options(GenerateOptions, {"json_schema": Variant("s", "")})
    assert options.request(TINY, ()).answer == JsonAnswer()


def test_no_option_leaves_every_choice_to_the_daemon() -> None:
    request = parse_options(GenerateOptions, {}).request(TINY, ())
    assert (request.max_tokens, request.stop, request.sampling) == (None, (), Sampling())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "max_tokns",
            Variant("u", 1),
            "There is no option 'max_tokns'. Did you mean 'max_tokens'?",
        ),
        ("colour", Variant("u", 1), "There is no option 'colour'. Options are max_tokens, "),
        ("x" * 100_000, Variant("u", 1), "There is no option '" + "x" * 40 + "…'."),
        ("max_tokens", Variant("s", "1"), "'max_tokens' has type 's'; expected is type 'u'."),
        ("max_tokens", Variant("b", True), "'max_tokens' has type 'b'; expected is type 'u'."),
        (
            "max_tokens",
            Variant("i", -1),
            "Option 'max_tokens' is -1; expected is type 'u', 0 to 4294967295.",
        ),
        ("temperature", Variant("s", "hot"), "'temperature' has type 's'; expected is type 'd'."),
        ("logit_bias", Variant("a{us}", {1: "x"}), "has type 'a{us}'; expected is type 'a{ud}'."),
        ("ignore_eos", Variant("u", 1), "has type 'u'; expected is type 'b'."),
        ("stop", Variant("s", "x"), "Option 'stop' has type 's'; expected is type 'as'."),
        ("system", Variant("s", "x"), "There is no option 'system'."),
    ],
)
def test_a_refusal_says_what_was_expected(key: str, value: Variant, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_options(GenerateOptions, {key: value})
    assert message in str(caught.value)


def test_a_verb_without_options_says_so() -> None:
    with pytest.raises(InvalidRequest, match="has no options: pass an empty dictionary"):
        parse_options(NoOptions, {"force": Variant("b", True)})


def test_messages_are_pairs_of_role_and_text() -> None:
    parsed = parse_messages([["system", "Be brief."], ["user", "<|im_start|>"]])
    assert parsed == (Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "<|im_start|>"))


@given(role=st.text().filter(lambda role: role not in list(Role)))
def test_an_unknown_role_is_refused_with_its_place(role: str) -> None:
    with pytest.raises(InvalidRequest, match="Message 1 has the role") as caught:
        parse_messages([["user", "hello"], [role, "text"]])
    assert caught.value.parameter == "messages[1].role"
    assert "system, user, assistant" in str(caught.value)
