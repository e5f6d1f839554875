"""Who is next."""

from hypothesis import given
from hypothesis import strategies as st

from unified_llm.bus.turns import Turns


def _all_of(turns: Turns[str, int]) -> list[tuple[str, int]]:
    taken = []
    while turns:
        taken.append(turns.take())
    return taken


def test_who_sends_many_waits_for_himself() -> None:
    turns: Turns[str, int] = Turns()
    for number in range(1000):
        turns.add("loud", number)
    turns.add("quiet", 0)
    turns.add("quiet", 1)
    assert _all_of(turns)[:5] == [
        ("loud", 0),
        ("quiet", 0),
        ("loud", 1),
        ("quiet", 1),
        ("loud", 2),
    ]


@given(st.lists(st.sampled_from("abc") | st.none(), max_size=60))
def test_nothing_is_lost_or_overtaken_by_its_own_and_nobody_has_two_turns_before_another(
    events: list[str | None],
) -> None:
    """None stands for a turn that is taken."""
    turns: Turns[str, int] = Turns()
    waiting: dict[str, list[int]] = {user: [] for user in "abc"}
    since: dict[str, set[str]] = {user: set() for user in "abc"}
    for number, user in enumerate([*events, *[None] * len(events)]):
        if user is not None:
            turns.add(user, number)
            waiting[user].append(number)
        elif turns:
            taken, thing = turns.take()
            assert thing == waiting[taken].pop(0)
            for other in "abc":
                if waiting[other] and other != taken:
                    assert taken not in since[other], f"{other} was passed over twice"
                    since[other].add(taken)
            since[taken].clear()
    assert not turns
