"""Purpose: listens and talks to the machine: service manager, sockets, folders, sleep.

Touches: systemd's notification socket, inherited descriptors, inotify, logind, the clocks.
Imported by: app.
Never: a decision about models; anything a caller sent.
"""
