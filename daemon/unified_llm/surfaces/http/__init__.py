"""Purpose: the OpenAI API and the daemon's own reads, over HTTP on a Unix socket.

Touches: listening and connected sockets.
Imported by: app.
Never: decides who may; waits for a client without a deadline; ends a stream twice.
"""
