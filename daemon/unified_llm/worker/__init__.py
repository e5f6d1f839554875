"""Purpose: the child process that loads one model and answers many requests with it.

Touches: one socket, the model file, the CPU or GPU.
Imported by: fleet, and only `protocol`.
Never: a secret, the network, settings, the database, code of the daemon above floor 3.
"""
