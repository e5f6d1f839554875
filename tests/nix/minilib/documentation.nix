# Options as data.
{
  attrNames,
  concatMap,
  concatStringsSep,
  elem,
  evalModules,
  isAttrs,
  isList,
  isOption,
  isString,
  literalExpression,
  map,
  showOption,
  ...
}:
let
  # A value as Nix text on one line.
  render =
    value:
    if isList value then
      if value == [ ] then "[ ]" else "[ ${concatStringsSep " " (map render value)} ]"
    else if isAttrs value then
      if value == { } then
        "{ }"
      else
        "{ ${concatStringsSep " " (map (name: "${name} = ${render value.${name}};") (attrNames value))} }"
    else
      builtins.toJSON value;

  literal =
    value:
    if elem (value._type or null) [ "literalExpression" "literalMD" ] then
      value
    else
      literalExpression (render value);

  describe =
    path: option:
    {
      name = showOption path;
      type = option.type.description or "unspecified value";
      description = option.description or null;
      visible = option.visible or true;
      internal = option.internal or false;
    }
    // (
      if option ? defaultText then
        { default = literal option.defaultText; }
      else if option ? default then
        { default = literal option.default; }
      else
        { }
    )
    // (if option ? example then { example = literal option.example; } else { });

  walk =
    path: tree:
    if isOption tree then
      [ (describe path tree) ] ++ (if tree ? type then walkType path tree.type else [ ])
    else
      concatMap (name: walk (path ++ [ name ]) tree.${name}) (attrNames tree);

  walkType =
    path: type:
    if type.submodules != null then
      walk path
        (evalModules {
          modules = type.submodules;
          specialArgs.name = "<name>";
        }).options
    else if type.nested != null then
      walkType (type.wrap path) type.nested
    else
      [ ];
in
{
  optionAttrSetToDocList = walk [ ];
}
