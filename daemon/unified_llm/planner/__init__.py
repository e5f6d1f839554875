"""Purpose: says what fits where, and what must leave, as pure functions.

Touches: nothing outside the process.
Imported by: registry, scheduler, operations, app.
Never: input or output, a clock, a log line: its questions are asked speculatively.
"""
