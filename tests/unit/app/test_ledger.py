"""What was used reaches the store, without anybody waiting for it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from unified_llm.app.ledger import Ledger, open_ledger
from unified_llm.domain.errors import StoreUnavailable
from unified_llm.domain.models import ModelId
from unified_llm.domain.usage import UsageLine
from unified_llm.registry.store import Store, open_store

LINE = UsageLine("2026-11-22", "uid:1000", "far", ModelId("far/a"), answers=1)


async def test_lines_outlive_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    for _ in range(2):
        async with open_store(path, unix_time=lambda: 0) as store, open_ledger(store) as ledger:
            ledger.add(LINE)
            ledger.add(LINE)
    async with open_store(path, unix_time=lambda: 0) as store, open_ledger(store) as ledger:
        assert await ledger.since("2026-11-01") == (replace(LINE, answers=4),)


async def test_what_is_added_last_is_written_too(tmp_path: Path) -> None:
    async with open_store(tmp_path / "registry.db", unix_time=lambda: 0) as store:
        async with open_ledger(store) as ledger:
            for _ in range(50):
                ledger.add(LINE)
                await asyncio.sleep(0)
        assert await Ledger(store).since("2026-11-01") == (replace(LINE, answers=50),)


async def test_what_can_not_be_written_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(None, unix_time=lambda: 0) as store:
        ledger = Ledger(store)
        ledger.add(LINE)

        async def refuse(self: Store, change: object) -> None:
            ledger.add(LINE)
            raise StoreUnavailable("The registry is busy.")

        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", refuse)
            await ledger.save()
        assert await ledger.since("2026-11-01") == (replace(LINE, answers=2),)
