"""Purpose: measures the machine's memory, one driver per way of measuring.

Touches: /proc, /sys, NVIDIA's management library.
Imported by: app.
Never: a decision; a number that was not measured.
"""
