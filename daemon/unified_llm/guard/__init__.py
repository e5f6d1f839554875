"""Purpose: who is asking, whether they may, what they may send, and what is written down.

Touches: peer credentials of sockets, the group database, the journal, polkit over our bus.
Imported by: operations, surfaces, app.
Never: a model, a worker, an answer; a prompt in a log.
"""
