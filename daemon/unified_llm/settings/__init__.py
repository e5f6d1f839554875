"""Purpose: turns the operator's file into frozen, validated values.

Touches: `load` reads the settings file; `schema` and `describe` touch nothing.
Imported by: `schema` by anyone above; `load` by app only.
Never: state, a secret's value, a decision taken from a setting.
"""
