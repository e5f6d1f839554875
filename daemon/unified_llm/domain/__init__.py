"""Purpose: the words everyone shares: values, states, errors and the ports between rooms.

Touches: nothing outside the process.
Imported by: every room.
Never: input or output, a clock, a thread, another room of ours.
"""
