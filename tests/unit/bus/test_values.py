"""Bodies, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.bus.decoding import parse_body, parse_header
from unified_llm.bus.encoding import encode_signal
from unified_llm.bus.values import Variant, from_body, parse_signature, to_body, unwrap


def _there_and_back(signature: str, *values: object) -> tuple[object, ...]:
    frame = encode_signal(
        1,
        path="/a",
        interface="a.B",
        member="C",
        signature=signature,
        values=values,
        destination=None,
    )
    header = parse_header(frame.data)
    body = frame.data[len(frame.data) - header.body_bytes :]
    assert header.signature == signature
    return tuple(parse_body(header, body))


_VARIANTS = st.recursive(
    st.one_of(
        st.builds(
            Variant,
            st.just("s"),
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        ),
        st.builds(Variant, st.just("x"), st.integers(-(2**63), 2**63 - 1)),
        st.builds(Variant, st.just("d"), st.floats(allow_nan=False)),
        st.builds(Variant, st.just("ay"), st.binary()),
        st.builds(Variant, st.just("b"), st.booleans()),
    ),
    lambda inner: st.one_of(
        st.builds(Variant, st.just("v"), inner),
        st.builds(Variant, st.just("av"), st.lists(inner, max_size=4)),
        st.builds(
            Variant,
            st.just("a{sv}"),
            st.dictionaries(
                st.text(st.characters(codec="ascii", exclude_characters="\0")), inner, max_size=4
            ),
        ),
        st.builds(Variant, st.just("(uv)"), st.tuples(st.integers(0, 9), inner).map(list)),
    ),
    max_leaves=8,
)


@given(_VARIANTS)
def test_every_value_arrives_as_it_left(value: Variant) -> None:
    assert _there_and_back("v", value) == (value,)


@given(st.text())
def test_every_text_can_be_sent_and_legal_ones_are_kept(text: str) -> None:
    (arrived,) = _there_and_back("s", text)
    assert isinstance(arrived, str)
    assert "\0" not in arrived
    if "\0" not in text and text.isprintable():
        assert arrived == text


def test_structs_may_be_tuples_and_arrays_any_sequence() -> None:
    rows = (("tiny", 1), ["big", 2])
    assert _there_and_back("a(su)", rows) == ([["tiny", 1], ["big", 2]],)
    assert _there_and_back("a{s(uu)}", {"a": (1, 2)}) == ({"a": [1, 2]},)


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("s", ()),
        ("s", ("a", "b")),
        ("s", (7,)),
        ("u", (-1,)),
        ("u", (2**32,)),
        ("o", ("not a path",)),
        ("o", ("/a\n",)),
        ("(su)", (("a",),)),
        ("a{sv}", ({"a": 1},)),
        ("as", (None,)),
    ],
)
def test_values_that_do_not_fit_are_refused_before_they_are_sent(
    signature: str, values: tuple[object, ...]
) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        _there_and_back(signature, *values)


def test_descriptors_are_numbered_in_their_order() -> None:
    body, fds = to_body("hsh", (30, "x", 20))
    assert (body, fds) == ([0, "x", 1], [30, 20])
    assert from_body("hsh", body, fds) == (30, "x", 20)
    assert from_body("a{sh}(sh)", [{"a": 1}, ["b", 0]], [5, 6]) == ({"a": 6}, ["b", 5])


@pytest.mark.parametrize(
    ("body", "fds"),
    [([0, 0], [5, 6]), ([0, 1], [5]), ([0, 1], [5, 6, 7]), ([0, 9], [5, 6])],
)
def test_descriptors_must_be_referred_to_once_each(body: list[object], fds: list[int]) -> None:
    with pytest.raises(ValueError, match="descriptor"):
        from_body("hh", body, fds)


def test_plain_values_are_taken_out_of_variants() -> None:
    wrapped = {"a": Variant("v", Variant("as", ["x"])), "b": [Variant("u", 1)]}
    assert unwrap(wrapped) == {"a": ["x"], "b": [1]}


def test_signatures_are_remembered_within_a_bound() -> None:
    for number in range(1000):
        parse_signature("y" * (number % 250) + "s" * (number // 250))
    assert parse_signature.cache_info().currsize <= 512
