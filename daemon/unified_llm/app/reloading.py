"""What of changed settings comes into force with a reload, and what waits for the next start."""

from typing import Final

from unified_llm.settings.schema import Settings

FIXED_SECTIONS: Final = (
    "memory", "hardware", "registry", "scheduler", "worker", "requests", "providers",
    "socket", "dbus", "host",
)  # fmt: skip
"""Those that can not change while connections and workers live."""

_BOUND_TO_PROVIDERS: Final = ("routing", "money")
"""Those that speak of providers: of the ones in the same file, and of no earlier ones.

A route that is no longer kept local because its provider has moved into the house would send to
where the provider was until then; a budget of a renamed provider would hold for nobody.
"""


def in_force(wanted: Settings, running: Settings) -> tuple[Settings, tuple[str, ...]]:
    """What a daemon runs by that ran by `running` and has read `wanted`.

    Also the names of the sections that differ from `wanted`: they wait for the next start.
    """
    kept = set(FIXED_SECTIONS)
    if wanted.providers != running.providers:
        kept.update(_BOUND_TO_PROVIDERS)
    found = wanted.model_copy(update={name: getattr(running, name) for name in kept})
    waiting = (name for name in Settings.model_fields if name in kept)
    return found, tuple(name for name in waiting if getattr(wanted, name) != getattr(found, name))
