"""Purpose: builds the house, opens it and closes it in order.

Touches: the command line, signals, the environment.
Imported by: nobody.
Never: a decision that another room could take.
"""
