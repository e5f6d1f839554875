"""Generated days are the same each time; recorded ones are read as journalctl writes them."""

import json
from pathlib import Path

from tests.bench.days import SPECS, draw_day, draw_rush, play, read_journal
from tests.fakes.replay import GIB, Replay
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.scheduler.policy import SchedulingPolicy


def test_a_seed_is_a_day_and_another_seed_another() -> None:
    assert draw_day(1) == draw_day(1)
    assert draw_day(1) != draw_day(2)


def test_models_that_keep_their_turn_are_loaded_less_often_in_a_rush() -> None:
    loads = []
    for turn, share in ((Seconds(10), 0.2), (Seconds(0.001), 1.0)):
        policy = SchedulingPolicy(ram_budget=Bytes(24 * GIB), turn=turn, swap_share=share)
        replay = Replay(policy, SPECS)
        heard = play(replay, draw_rush(1)[:2])
        assert len(heard) == 400
        assert all(each.refused is None for each in heard)
        loads.append(len(replay.loads))
    assert loads[1] > 2 * loads[0]


def test_a_recorded_day_is_read_in_the_order_in_which_its_requests_came(tmp_path: Path) -> None:
    def record(ended: float, took: float, model: str, action: str = "generate") -> str:
        fields = {
            "UNIFIED_LLM_ACTION": action,
            "UNIFIED_LLM_OBJECT": model,
            "UNIFIED_LLM_PRINCIPAL": "uid:1000",
            "UNIFIED_LLM_DURATION_USEC": str(int(took * 1e6)),
            "__REALTIME_TIMESTAMP": str(int(ended * 1e6)),
        }
        return json.dumps(fields)

    file = tmp_path / "day.json"
    file.write_text(
        "\n".join([record(105, 2, "late"), record(130, 30, "early"), record(1, 1, "x", "read")])
    )
    asks = read_journal(file)
    assert [(ask.at, ask.model, ask.seconds) for ask in asks] == [
        (0.0, "early", 30.0),
        (3.0, "late", 2.0),
    ]
