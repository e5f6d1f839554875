# Functions on plain values.
let
  inherit (builtins)
    attrNames
    concatMap
    elem
    elemAt
    filter
    foldl'
    isAttrs
    isList
    length
    listToAttrs
    map
    stringLength
    substring
    ;
in
rec {
  inherit (builtins)
    all
    any
    attrNames
    attrValues
    concatLists
    concatMap
    elem
    filter
    foldl'
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isPath
    isString
    length
    map
    mapAttrs
    ;

  nameValuePair = name: value: { inherit name value; };
  mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  filterAttrs =
    keep: set:
    listToAttrs (
      map (name: nameValuePair name set.${name}) (filter (name: keep name set.${name}) (attrNames set))
    );
  genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
  optionalAttrs = condition: set: if condition then set else { };
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: list: if condition then list else [ ];
  optionalString = condition: text: if condition then text else "";
  toList = value: if isList value then value else [ value ];
  unique = foldl' (found: value: if elem value found then found else found ++ [ value ]) [ ];
  last = list: elemAt list (length list - 1);
  concatStrings = builtins.concatStringsSep "";
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;

  isDerivation = value: isAttrs value && value.type or null == "derivation";

  # Descends into plain attribute sets only: what carries a _type is a value.
  mapAttrsRecursive =
    f:
    let
      descend =
        path:
        builtins.mapAttrs (
          name: value:
          if isAttrs value && !(value ? _type) && !isDerivation value then
            descend (path ++ [ name ]) value
          else
            f (path ++ [ name ]) value
        );
    in
    descend [ ];

  recursiveUpdate =
    left: right:
    left
    // builtins.mapAttrs (
      name: value:
      if isAttrs value && isAttrs (left.${name} or null) then recursiveUpdate left.${name} value else value
    ) right;

  setAttrByPath = path: value: foldl' (inner: name: { ${name} = inner; }) value (reverseList path);
  attrByPath =
    path: default: set:
    foldl' (found: name: if isAttrs found && found ? ${name} then found.${name} else default) set path;
  reverseList = foldl' (turned: value: [ value ] ++ turned) [ ];

  getExe' = package: program: "${package}/bin/${program}";
  showOption = concatStringsSep ".";
  inherit (builtins) concatStringsSep;
}
