"""What every section of the settings is made of: closed groups, and the types of their fields."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from unified_llm.domain.units import Seconds

DAY: Final = 86_400
KIB: Final = 1024
MIB: Final = 1024 * KIB


def about(unit: str = "", reason: str = "", *, form: str = "", default: str = "") -> JsonDict:
    """What a field says of itself beyond pydantic's own words.

    reason: why the default is what it is. form: what the value looks like, where its type does not
    tell; default: likewise for a default that depends.
    """
    return {"unit": unit, "reason": reason, "form": form, "default_text": default}


def _require_absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise PydanticCustomError("relative_path", "{path} is not absolute", {"path": str(path)})
    return path


# Not strict, because a path arrives as text.
AbsolutePath = Annotated[
    Path,
    Strict(False),
    AfterValidator(_require_absolute),
    Field(json_schema_extra={"pattern": "^/"}),
]
Deadline = Annotated[Seconds, Field(gt=0, le=DAY)]


class Section(BaseModel):
    """A closed, frozen group of settings; a number in quotes is text, and refused as such."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
