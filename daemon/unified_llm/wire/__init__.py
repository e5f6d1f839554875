"""Purpose: the JSON shapes spoken with clients, both ways, and what untrusted JSON may look like.

Touches: nothing outside the process.
Imported by: surfaces, cli.
Never: a socket, a clock, a decision; a dict that travels beyond this room.
"""
