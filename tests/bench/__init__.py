"""Benchmarks, run by hand as `python -m tests.bench.NAME`.

Each ends with a line per figure, `BAR <figure> <value> <bar> ok|short`. What falls short is a
finding and no failure: the exit status is 0 whenever it could be measured.
"""
