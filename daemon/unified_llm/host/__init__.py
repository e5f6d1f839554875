"""Purpose: listens and talks to the machine's service manager: readiness, watchdog, sockets.

Touches: systemd's notification socket, inherited descriptors, the monotonic clock.
Imported by: app.
Never: a decision about models; anything a caller sent.
"""
