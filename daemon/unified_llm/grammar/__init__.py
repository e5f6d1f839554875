"""Purpose: what an answer has to look like, as a grammar that llama.cpp enforces token by token.

Touches: nothing outside the process.
Imported by: guard, worker.
Never: a grammar that enforces less than was asked; work without a limit.
"""
