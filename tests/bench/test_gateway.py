"""What the gateway's benchmark makes of what it has seen, and that it sees what is there."""

import os

import pytest

from tests.bench.chat_load import BrokenAnswerError, Server
from tests.bench.gateway import Comparison, Seen
from tests.bench.gateway_load import Round, Took, ask_all
from tests.bench.mock_upstream import open_mock_upstream
from tests.fakes.upstream import open_upstream, reply


def seen(*rounds: tuple[float, ...]) -> Seen:
    """Rounds of one client, whose requests took so long."""
    return Seen(
        [
            Round(tuple(Took(each / 2, each) for each in took), sum(took), sum(took) / 2)
            for took in rounds
        ]
    )


def test_what_a_gateway_adds_is_compared_round_by_round() -> None:
    # The second round is of a machine that is ten times as slow, for all of them.
    direct, ours = seen((1.0,), (10.0,), (1.0,)), seen((2.0,), (20.0,), (3.0,))
    theirs = seen((5.0,), (50.0,), (5.0,))
    compared = Comparison(direct, ours, theirs)
    assert compared.added_p50 == pytest.approx(0.25)
    assert compared.rate == pytest.approx(2.5)


def test_what_a_gateway_adds_is_without_what_the_upstream_takes() -> None:
    compared = Comparison(seen((0.25, 0.5, 1.0)), seen((1.0, 1.0, 2.0)), seen((1.0,)))
    assert compared.added(compared.ours, 50) == 500
    assert compared.added(compared.ours, 95) == 1000


def test_processor_time_is_for_each_request_of_all_rounds() -> None:
    assert seen((2.0, 2.0), (2.0, 2.0)).processor_ms == pytest.approx(1000)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
async def test_the_clients_read_all_of_every_answer(*, stream: bool) -> None:
    with open_mock_upstream() as upstream:
        server = Server("direct", upstream.port, upstream.process)
        found = await ask_all(server, "m", stream=stream, clients=3, count=20)
    assert len(found.took) == 20
    assert all(0 < each.first <= each.whole for each in found.took)


@pytest.mark.parametrize(
    "answer", [reply(b"{}", status=500), reply(b"alpha and no more"), reply(b"alpha", status=400)]
)
async def test_an_answer_that_is_wrong_ends_the_benchmark(answer: list[bytes]) -> None:
    async with open_upstream(answer) as upstream:
        server = Server("direct", upstream.port, os.getpid())
        with pytest.raises(ExceptionGroup) as caught:
            await ask_all(server, "m", stream=False, clients=1, count=1)
    assert isinstance(caught.value.exceptions[0], BrokenAnswerError)
