"""Purpose: the complete list of things anyone may ask; each gated, recorded and counted alike.

Touches: nothing outside the process.
Imported by: surfaces, app.
Never: a protocol's words; a status code, a bus name, JSON.
"""
