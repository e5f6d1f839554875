"""Purpose: reads a model file's header without trusting it.

Touches: nothing but the byte source it is given.
Imported by: registry, downloads.
Never: a file of its own, a count believed before it is checked, native code.
"""
