# Declarations.
{ isAttrs, ... }:
rec {
  mkOption = attributes: { _type = "option"; } // attributes;
  isOption = value: isAttrs value && value._type or null == "option";

  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };
  literalMD = text: {
    _type = "literalMD";
    inherit text;
  };
}
