"""Purpose: remembers which models there are.

Touches: the model files and the scanned directory, reading only.
Imported by: operations, app.
Never: a decision about what is loaded, an event loop (its callers use a thread), writing to models.
"""
