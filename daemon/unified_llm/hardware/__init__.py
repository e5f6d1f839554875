"""Purpose: measures the machine's memory, one driver per way of measuring.

Touches: /proc, the control group file system.
Imported by: app.
Never: a decision; a number that was not measured.
"""
