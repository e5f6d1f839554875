"""Purpose: brings model files here, checked and whole or not at all.

Touches: descriptors that callers hand over, the model directory.
Imported by: operations, surfaces, app.
Never: a decision on who may; a file outside the directory it is given; a name a file gives itself.
"""
