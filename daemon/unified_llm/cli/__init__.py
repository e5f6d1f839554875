"""Purpose: a person's hand: inference and reads over the socket, management over D-Bus.

Touches: our socket, our bus name, the terminal.
Imported by: nobody.
Never: a file of the daemon's, a model, a worker.
"""
