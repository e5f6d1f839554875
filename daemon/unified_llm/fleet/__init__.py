"""Purpose: owns the worker processes and carries out what the scheduler decided.

Touches: child processes, two socketpairs each, model files (to open them).
Imported by: app.
Never: a decision on who is loaded; the engine; settings files.
"""
