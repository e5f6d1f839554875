"""What the settings and the machine mean to each room, in the room's own terms."""

import logging
import os
from collections.abc import Mapping
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Final

from unified_llm.domain.callers import Door
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money, Price, per_million
from unified_llm.domain.units import Bytes
from unified_llm.fleet.backend import Deadlines
from unified_llm.fleet.patience import Patience
from unified_llm.guard.peers import find_gids, find_group
from unified_llm.guard.permissions import ADMIN_GROUP, USER_GROUP, Permissions
from unified_llm.hardware.ram import usable_ram
from unified_llm.planner.evict import EvictionPolicy
from unified_llm.planner.fit import Sacrifice
from unified_llm.routing.budget import Limit, Period
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.settings.schema import Settings
from unified_llm.settings.sections.money import BudgetSettings, MoneySettings, PriceSettings
from unified_llm.settings.sections.registry import RegistrySettings
from unified_llm.settings.sections.socket import SocketSettings
from unified_llm.settings.sections.worker import WorkerSettings
from unified_llm.surfaces.http.limits import HttpLimits

_log = logging.getLogger(__name__)

RAM_SHARE: Final = 0.8
KEPT_STATES_SHARE: Final = 16
# Where the machine does not say what it has; enough for a small model.
_RAM_UNKNOWN: Final = Bytes(1024**3)


def permissions(settings: Settings) -> Permissions:
    """The table, for this machine's groups and the user we run as."""
    asked = {Door.DBUS} if settings.dbus.authority == "polkit" else set()
    return Permissions(
        daemon_uid=os.getuid(),
        user_gid=find_group(USER_GROUP),
        admin_gid=find_group(ADMIN_GROUP),
        authority_doors=frozenset(asked),
    )


def scheduling_policy(settings: Settings) -> SchedulingPolicy:
    """The scheduler's limits and deadlines."""
    scheduler = settings.scheduler
    return SchedulingPolicy(
        ram_budget=Bytes(ram_budget(settings) - kept_states_quota(settings)),
        fill_share=settings.memory.start_percent / 100,
        relief_share=min(settings.memory.stop_percent, settings.memory.start_percent) / 100,
        sacrifices=tuple(map(Sacrifice, settings.memory.sacrifices)),
        queue_limit=scheduler.queue_limit,
        eviction=EvictionPolicy(scheduler.eviction),
        turn=scheduler.turn_seconds,
        ageing=scheduler.ageing_seconds,
        load_deadline=scheduler.load_seconds,
        drain_grace=scheduler.drain_seconds,
        stop_grace=scheduler.stop_seconds,
    )


def ram_budget(settings: Settings) -> Bytes:
    """For models and kept states. As set, else a share of what this service may use."""
    if settings.memory.ram_budget_bytes is not None:
        return settings.memory.ram_budget_bytes
    usable = usable_ram()
    return _RAM_UNKNOWN if usable is None else Bytes(int(usable * RAM_SHARE))


def kept_states_quota(settings: Settings) -> Bytes:
    """As set, but never more than half of the budget; else a small share of it."""
    budget = ram_budget(settings)
    if settings.memory.kept_states_bytes is None:
        return Bytes(budget // KEPT_STATES_SHARE)
    return Bytes(min(settings.memory.kept_states_bytes, budget // 2))


def engine_build(worker: WorkerSettings) -> str:
    """What the workers will call themselves, engine and build, so that no process has to say it."""
    if worker.engine == "fake":
        return "fake fake 1"
    return f"llama llama-cpp-python {version('llama-cpp-python')}"


def patience(settings: Settings) -> Patience:
    """How long the fleet waits for a worker."""
    return Patience(progress=settings.worker.stall_seconds)


def prices(money: MoneySettings) -> dict[ModelId, Price]:
    """What providers ask for, by model."""
    return {ModelId(name): _price(price) for name, price in money.prices.items()}


def _price(price: PriceSettings) -> Price:
    return Price(
        input=_per_token(price.input),
        output=_per_token(price.output),
        cached=_if_known(price.cached),
        cache_write=_if_known(price.cache_write),
        reasoning=_if_known(price.reasoning),
        long_cache_write=_if_known(price.long_cache_write),
    )


def _if_known(dollars: float | None) -> Money | None:
    return None if dollars is None else _per_token(dollars)


def _per_token(dollars: float) -> Money:
    # By its text: what was written with six decimals is meant so.
    return per_million(Decimal(repr(dollars)))


def limits(money: MoneySettings) -> tuple[Limit, ...]:
    """The budgets, for this machine's groups. Asks the name service, which may take seconds."""
    return tuple(_limit(name, budget) for name, budget in money.budgets.items())


def _limit(name: str, budget: BudgetSettings) -> Limit:
    found = {group: find_group(group) for group in budget.groups}
    known = frozenset(gid for gid in found.values() if gid is not None)
    return Limit(
        name=name,
        amount=Money(_per_token(budget.dollars) * 10**6),
        period=Period(budget.period),
        users=frozenset(budget.users),
        groups=known if found else None,
        unknown_groups=tuple(group for group, gid in found.items() if gid is None),
        provider=budget.provider,
        is_shared=budget.shared,
        warn_percent=budget.warn_percent,
    )


def gids_of(principal: str) -> frozenset[int]:
    """The groups of a user whom nobody has seen yet, as a login would give them."""
    kind, _, uid = principal.partition(":")
    return find_gids(int(uid)) if kind == "uid" else frozenset()


def deadlines(settings: Settings) -> Deadlines:
    """How long an answer may take."""
    requests = settings.requests
    return Deadlines(
        first_event=requests.first_event_seconds,
        between_events=requests.between_events_seconds,
        total=requests.total_seconds,
    )


def registry_path(registry: RegistrySettings, environment: Mapping[str, str]) -> Path | None:
    """Where the database is; None for one in memory.

    A path that nobody asked for is used only if its directory is there: then the daemon runs as a
    service, and not from somebody's checkout.
    """
    if "path" in registry.model_fields_set or registry.path is None:
        return registry.path
    # systemd.exec(5): the directories of StateDirectory=, in their order.
    state = environment.get("STATE_DIRECTORY", "").split(":")[0]
    path = Path(state) / registry.path.name if state else registry.path
    return path if path.parent.is_dir() else None


def http_limits(socket: SocketSettings) -> HttpLimits:
    """What a client of the socket may take."""
    return HttpLimits(
        body_bytes=socket.max_body_bytes,
        head_seconds=socket.head_seconds,
        body_seconds=socket.body_seconds,
        idle_seconds=socket.idle_seconds,
        write_seconds=socket.write_seconds,
        connections=socket.max_connections,
        connections_per_uid=socket.max_connections_per_user,
    )


def socket_group(socket: SocketSettings) -> int | None:
    """The gid the socket is given to; None leaves it with the daemon's own group."""
    gid = None if socket.group is None else find_group(socket.group)
    if socket.group is not None and gid is None:
        _log.warning("no group %s: the socket stays with the daemon's own group", socket.group)
    return gid
