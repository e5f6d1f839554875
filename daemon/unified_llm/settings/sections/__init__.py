"""Purpose: one file for each section of the settings, and what they are all made of.

Touches: nothing outside the process.
Imported by: settings.schema; a room that takes a whole section.
Never: a value that is not a setting; a rule that spans two sections (`settings.schema` has those).
"""
