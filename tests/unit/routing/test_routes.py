"""Names lead to models."""

import pytest

from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.models import ModelId
from unified_llm.domain.routing import AUTO, Route, Strategy
from unified_llm.routing.routes import RouteBook

A, B, SMART, OTHER = ModelId("a"), ModelId("b"), ModelId("smart"), ModelId("gpt-4o")
ROUTE = Route(SMART, Strategy.CLOUD_FIRST, (A, B))


def test_a_model_stands_for_itself_and_what_it_falls_back_to() -> None:
    book = RouteBook(fallbacks={A: (B,)})
    assert book.resolve(A) == Route(A, Strategy.IN_ORDER, (A, B))
    assert book.resolve(B) == Route(B, Strategy.IN_ORDER, (B,))


def test_an_alias_stands_for_a_route_or_for_a_model_with_its_fallbacks() -> None:
    book = RouteBook({SMART: ROUTE}, {OTHER: SMART, B: A}, {A: (ModelId("c"),)})
    assert book.resolve(OTHER) is ROUTE
    assert book.resolve(B).targets == (A, ModelId("c"))


def test_auto_never_leaves_the_machine_unless_it_is_set() -> None:
    auto = RouteBook().resolve(AUTO)
    assert auto.local_only
    assert auto.targets is None
    own = Route(AUTO, Strategy.CLOUD_FIRST, (A,))
    assert RouteBook({AUTO: own}).resolve(AUTO) is own


def test_the_book_knows_what_it_names() -> None:
    book = RouteBook({SMART: ROUTE}, {OTHER: SMART}, {A: (ModelId("c"),)})
    assert [name for name, _ in book.listed()] == [OTHER, SMART]
    assert book.named_targets() == {A, B, ModelId("c")}


def test_what_only_one_model_can_do_falls_back_to_nobody() -> None:
    one, two, alias = ModelId("one"), ModelId("two"), ModelId("alias")
    single, several = ModelId("single"), ModelId("several")
    book = RouteBook(
        routes={
            single: Route(single, Strategy.IN_ORDER, (one,), local_only=True),
            several: Route(several, Strategy.IN_ORDER, (one, two)),
        },
        aliases={alias: one, ModelId("both"): several},
        fallbacks={one: (two,)},
    )
    assert book.resolve_alone(one).targets == (one,)
    assert book.resolve_alone(alias).targets == (one,)
    assert book.resolve_alone(single) == book.routes[single]
    for name in (several, ModelId("both"), AUTO):
        with pytest.raises(InvalidRequest, match="can not be compared"):
            book.resolve_alone(name)
