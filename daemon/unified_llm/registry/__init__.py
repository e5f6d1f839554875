"""Purpose: remembers which models there are, and what was learned of them.

Touches: the database; the model files and the scanned directory, reading only.
Imported by: operations, app.
Never: a decision about what is loaded; writing to models.
"""
