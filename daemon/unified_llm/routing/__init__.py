"""Purpose: says which backend answers for a model.

Touches: nothing outside the process.
Imported by: operations, app.
Never: a connection or a worker of its own; backends are passed in.
"""
