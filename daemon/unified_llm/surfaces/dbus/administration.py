"""The methods for administrators: arguments into the domain's words, and answers back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from unified_llm.bus.names import job_path
from unified_llm.bus.objects import CallContext, Handler, Setter
from unified_llm.domain.callers import Caller
from unified_llm.guard.permissions import Action
from unified_llm.operations.administration import ALL_JOBS, SETTINGS, Administration
from unified_llm.operations.admission import Admission
from unified_llm.operations.library import ALL
from unified_llm.operations.log_control import LogControl
from unified_llm.surfaces.dbus.options import NoOptions, parse_options

Options = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AdministrationVerbs:
    """What stands behind the methods."""

    administration: Administration
    log: LogControl
    admission: Admission

    def of_manager(self) -> dict[str, Handler]:
        """Those of org.unifiedllm1.Manager."""
        return {"CancelAll": self._cancel_all, "Flush": self._flush, "Reload": self._reload}

    def log_setters(self, on_change: Callable[[], None]) -> dict[str, Setter]:
        """Those of org.freedesktop.LogControl1. on_change: told when something has been set."""

        async def set_level(context: CallContext, value: object) -> None:
            level = cast("str", value)
            caller = await self.admission.grant(
                context.caller,
                Action.CONFIGURE,
                "log-level",
                {"level": level},
                may_interact=context.may_interact,
            )
            self.log.change(caller, level)
            on_change()

        return {"LogLevel": set_level}

    async def _cancel_all(self, context: CallContext, options: Options) -> tuple[int]:
        parse_options(NoOptions, options)
        caller = await self._granted(context, Action.MANAGE_JOBS, ALL_JOBS)
        return (self.administration.cancel_all(caller),)

    async def _flush(self, context: CallContext, options: Options) -> tuple[int, str]:
        parse_options(NoOptions, options)
        caller = await self._granted(context, Action.UNLOAD_MODEL, ALL)
        job = self.administration.begin_flush(caller)
        return job.id, job_path(job.id)

    async def _reload(self, context: CallContext, options: Options) -> tuple[list[str]]:
        parse_options(NoOptions, options)
        caller = await self._granted(context, Action.RELOAD, SETTINGS)
        return (list(await self.administration.reload(caller)),)

    async def _granted(self, context: CallContext, action: Action, target: str) -> Caller:
        return await self.admission.grant(
            context.caller, action, target, {}, may_interact=context.may_interact
        )
