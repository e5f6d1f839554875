"""Purpose: the child process that loads one model and answers many requests with it.

Touches: one socket, one more for kept states, the model file, the CPU or GPU.
Imported by: fleet, and only `protocol` and `state_channel`.
Never: a secret, the network, settings, the database, code of the daemon above floor 3.
"""
