"""The reference page of all settings, made from the schema.

`python -m unified_llm.settings.reference > docs/reference/settings.md` writes it anew.
"""

import json
import sys
from collections.abc import Sequence
from itertools import groupby

from unified_llm.settings.describe import JsonSchema, all_settings, render_expected, schema_at

_INTRODUCTION = """\
# Settings

<!-- Made by `python -m unified_llm.settings.reference > docs/reference/settings.md`. -->

The daemon reads one YAML file: the one given by `--config`, else the one named by the environment
variable `UNIFIED_LLM_CONFIG`, else `/etc/unified-llm/config.yaml`. JSON is YAML, so a generated
JSON file will do. Every setting has a default but the path of a model; an empty file is a valid
one. A name that is not listed here is an error, and all errors of a file are reported together:

```
$ unified-llm config check /etc/unified-llm/config.yaml
/etc/unified-llm/config.yaml: 2 problems
  line 4: models.tiny.slots: is 0 (expected whole number of conversations from 1 to 64 or null)
  line 9: scheduler.queue_limt: is not a setting; did you mean 'queue_limit'?
```

Numbers are written without quotes. There are no anchors, aliases, merge keys or tags, and a name
may stand only once in a section. [config.example.yaml](config.example.yaml) shows a whole file.
"""


def render_reference() -> str:
    """The page, in Markdown."""
    parts = [_INTRODUCTION]
    for section, members in groupby(all_settings(), key=lambda setting: setting[0][:-1]):
        parts.append(_render_section(section, [(path[-1], schema) for path, schema in members]))
    return "\n".join(parts)


def _render_section(section: Sequence[str], members: list[tuple[str, JsonSchema]]) -> str:
    schema = schema_at(section) or {}
    lines = [
        f"## `{'.'.join(section)}`",
        "",
        _flowing(schema.get("description", "")),
        "",
        "| Key | Value | Unit | Default | Meaning |",
        "|---|---|---|---|---|",
        *(_render_row(name, member) for name, member in members),
    ]
    return "\n".join(lines) + "\n"


def _render_row(name: str, schema: JsonSchema) -> str:
    cells = (
        f"`{name}`",
        render_expected({**schema, "unit": ""}),
        schema["unit"],
        _render_default(schema),
        schema["description"],
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _render_default(schema: JsonSchema) -> str:
    if "default" not in schema:
        return "required"
    if schema["default_text"]:
        return str(schema["default_text"])
    reason = f": {schema['reason']}" if schema["reason"] else ""
    return f"`{json.dumps(schema['default'])}`{reason}"


def _flowing(docstring: str) -> str:
    """A docstring's paragraphs, each on one line."""
    paragraphs = docstring.split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


if __name__ == "__main__":
    sys.stdout.write(render_reference())
