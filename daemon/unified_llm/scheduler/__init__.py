"""Purpose: decides who is loaded, served, queued or evicted, and does nothing itself.

Touches: nothing outside the process.
Imported by: operations, app; fleet.supervisor for `effects` only.
Never: a process, a file, a clock of its own (only `loop` and its `alarm` know asyncio).
"""
