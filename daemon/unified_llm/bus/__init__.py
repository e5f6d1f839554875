"""Purpose: one hardened D-Bus connection, our objects on it, and D-Bus faults turned into ours.

Touches: the system bus, /etc/machine-id, the user database for a missing group list.
Imported by: guard, host, surfaces.dbus, cli, app.
Never: an operation, another service's description of itself, a peer that ends the connection.
"""
