"""`unified-llm usage`: what was used, and what it cost."""

from decimal import Decimal
from typing import Annotated

import typer

from unified_llm.cli.client import Daemon
from unified_llm.cli.render import print_json, print_table
from unified_llm.cli.session import AsJson, reporting
from unified_llm.wire.native import UsageLineBody, UsageReportBody


def usage(
    days: Annotated[
        int, typer.Option("--days", min=1, max=366, help="How many days, today included; of UTC.")
    ] = 30,
    as_json: AsJson = False,
) -> None:
    """Show what you have used by day and model, what it cost, and how your budgets stand.

    Root and the group unified-llm-admin see everybody's.
    """
    with reporting(as_json), Daemon() as daemon:
        found = daemon.usage(days)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            _show(found)


def _show(found: UsageReportBody) -> None:
    print_table(
        ["DAY", "WHO", "MODEL", "ANSWERS", "PROMPT", "CACHED", "ANSWER", "DOLLARS"],
        [_row(line) for line in found.lines],
    )
    for each in found.budgets:
        whose = f" of {each.principal}" if each.principal else ""
        typer.echo(
            f"budget {each.name}{whose}, {each.period}: {_short(each.used_dollars)} of "
            f"{_short(each.limit_dollars)} dollars"
        )


def _row(line: UsageLineBody) -> list[str]:
    name = f"{line.model} (here)" if line.provider == "local" else line.model
    return [
        line.day,
        line.principal,
        name,
        str(line.answers),
        str(line.prompt_tokens),
        str(line.cached_tokens),
        str(line.completion_tokens),
        _cost(line),
    ]


def _cost(line: UsageLineBody) -> str:
    if line.unpriced == line.answers:
        return "unknown"
    cost = _short(line.dollars)
    notes = [f"{line.unpriced} unknown"] if line.unpriced else []
    notes += [f"{line.estimated} at most"] if line.estimated else []
    return f"{cost} ({', '.join(notes)})" if notes else cost


def _short(dollars: str) -> str:
    return f"{Decimal(dollars):.4f}"
