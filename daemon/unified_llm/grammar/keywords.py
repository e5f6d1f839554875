"""The words of JSON Schema that are understood, and those that ask for nothing.

A word that stands in none of these sets is refused: what is misspelt would otherwise be ignored.
"""

from typing import Final

ANNOTATIONS: Final = frozenset({
    "$comment", "$defs", "$schema", "contentEncoding", "contentMediaType", "default", "definitions",
    "deprecated", "description", "discriminator", "example", "examples", "externalDocs", "readOnly",
    "title", "writeOnly", "xml",
})  # fmt: skip

OF_TYPE: Final = {
    "object": frozenset(
        {"properties", "required", "additionalProperties", "minProperties", "maxProperties"}
    ),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "number": frozenset(
        {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    ),
}

ALTERNATIVES: Final = ("anyOf", "oneOf")

UNDERSTOOD: Final = frozenset(
    {"$ref", "allOf", "type", "nullable", "enum", "const", *ALTERNATIVES}
).union(*OF_TYPE.values())

# What OpenAPI says about numbers; only the first two bound them.
INTEGER_FORMATS: Final = {"int32": 2**31, "int64": 2**63}
NUMBER_FORMATS: Final = frozenset({"float", "double"})
