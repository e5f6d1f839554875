"""Purpose: listens and talks to the machine: service manager, sockets, changes of folders.

Touches: systemd's notification socket, inherited descriptors, inotify, the clocks.
Imported by: app.
Never: a decision about models; anything a caller sent.
"""
