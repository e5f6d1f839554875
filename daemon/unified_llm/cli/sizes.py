"""Sizes as people write them on a command line."""

import re
from typing import Final

import typer

_SIZE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_FACTORS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(text: str) -> int:
    """Bytes in `text`, such as 8G, 512M or 6.5GiB; units are binary. Raises typer.BadParameter."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no size; write it as 8G, 512M or 6.5GiB.")
    return round(float(found[1]) * _FACTORS[found[2].upper()])
