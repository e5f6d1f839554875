"""Plans between the wire and the operations; no path of a file is in any of them."""

from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.operations.plans import PlanQuestion, PlanReport
from unified_llm.wire import native


def plan_question(asked: native.PlanShape) -> PlanQuestion:
    """What a client asks."""
    return PlanQuestion(
        context_tokens=None if asked.context_tokens is None else Tokens(asked.context_tokens),
        minimum_context=None if asked.minimum_context is None else Tokens(asked.minimum_context),
        slots=asked.slots,
        cache_type=asked.cache_type,
        ram=None if asked.ram_bytes is None else Bytes(asked.ram_bytes),
        gpus=None if asked.gpu_bytes is None else tuple(map(Bytes, asked.gpu_bytes)),
        needs_gpu=asked.needs_gpu,
        is_rehearsed=asked.dry_run,
    )


def plan_body(model: ModelId, report: PlanReport) -> native.PlanBody:
    """What it is told."""
    plan = report.plan
    return native.PlanBody(
        model=model,
        context_tokens=plan.run.context_tokens,
        slots=plan.run.slots,
        cache_type=plan.run.cache_type.name,
        layers=len(report.profile.layers),
        cpu_experts=plan.layout.cpu_experts,
        total_bytes=plan.estimate.total,
        source=plan.estimate.source,
        devices=tuple(
            native.PlannedDeviceBody(
                name=each.name,
                budget_bytes=each.budget,
                used_bytes=each.used,
                layers=each.layers,
            )
            for each in report.devices
        ),
        parts=tuple(
            native.PlannedPartBody(
                device=each.device,
                part=each.part,
                bytes=each.size_bytes,
                why=each.why,
                source=each.source,
            )
            for each in report.parts
        ),
        sacrifices=report.sacrifices,
        assumptions=report.profile.assumptions,
    )
