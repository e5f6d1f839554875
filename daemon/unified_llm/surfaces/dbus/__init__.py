"""Purpose: the system bus as a door: objects, properties and signals over operations and jobs.

Touches: the bus, through the bus room; one pipe for each streamed answer.
Imported by: app.
Never: a decision; a permission; anything the interface files do not promise.
"""
