"""Purpose: the doors: each translates one protocol to operations and their outcomes back.

Touches: nothing itself; its rooms do.
Imported by: app.
Never: a decision, a right, a model; what another surface speaks.
"""
