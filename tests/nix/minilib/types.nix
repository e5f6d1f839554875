# Types: which values are allowed (`check`), and what several definitions amount to (`merge`, which is
# given them as { value; file; }). `nested` and `submodules` are for the documentation.
{
  all,
  any,
  attrNames,
  concatLists,
  concatMap,
  concatStringsSep,
  elem,
  evalModules,
  filter,
  foldl',
  genAttrs,
  hasPrefix,
  head,
  isAttrs,
  isBool,
  isDefined,
  isDerivation,
  isFloat,
  isFunction,
  isInt,
  isList,
  isPath,
  isString,
  last,
  length,
  map,
  pushDown,
  showOption,
  strongest,
  toList,
  unique,
  ...
}:
let
  inherit (builtins) toJSON;

  show =
    value:
    if isFunction value then
      "<function>"
    else if isDerivation value then
      "<derivation>"
    else if isPath value then
      toString value
    else
      toJSON value;

  mergeEqual =
    path: definitions:
    let
      values = map (definition: definition.value) definitions;
    in
    if all (value: value == head values) values then
      head values
    else
      throw "The option `${showOption path}' has conflicting definition values: ${concatStringsSep ", " (map show values)}";

  mkOptionType =
    {
      name,
      description ? name,
      check ? (_: true),
      merge ? mergeEqual,
      nested ? null,
      wrap ? (path: path),
      submodules ? null,
    }:
    {
      inherit
        name
        description
        check
        merge
        nested
        wrap
        submodules
        ;
    };

  # One value from definitions that still carry properties.
  evaluate =
    path: type: definitions:
    let
      values = strongest definitions;
      wrong = filter (value: !type.check value) values;
    in
    if values == [ ] then
      throw "The option `${showOption path}' was accessed but has no value defined. Try setting the option."
    else if wrong != [ ] then
      throw "A definition for option `${showOption path}' is not of type `${type.description}'. Definition values: ${show (head wrong)}"
    else
      type.merge path (
        map (value: {
          inherit value;
          file = "<unknown>";
        }) values
      );

  valuesOf = map (definition: definition.value);
  scalar = description: check: mkOptionType { name = description; inherit check; };
  number = value: isInt value || isFloat value;
  between = kind: check: low: high: scalar "${kind} between ${toString low} and ${toString high} (both inclusive)" (
    value: check value && value >= low && value <= high
  );
  isPathLike = value: (isString value || isPath value) && hasPrefix "/" (toString value);
  isInStore = value: hasPrefix builtins.storeDir (toString value);
  ofElements = what: type: "${what} of ${type.description}";
in
rec {
  inherit evaluate mkOptionType;

  bool = scalar "boolean" isBool;
  int = scalar "signed integer" isInt;
  float = scalar "floating point number" isFloat;
  str = scalar "string" isString;
  package = scalar "package" isDerivation;
  path = scalar "absolute path" isPathLike;
  externalPath = scalar "absolute path not in the Nix store" (
    value: isString value && isPathLike value && !isInStore value
  );
  strMatching =
    pattern:
    scalar "string matching the pattern ${pattern}" (
      value: isString value && builtins.match pattern value != null
    );
  enum = values: scalar "one of ${concatStringsSep ", " (map toJSON values)}" (value: elem value values);

  ints.between = between "integer" isInt;
  ints.positive = scalar "positive integer, meaning >0" (value: isInt value && value > 0);
  numbers.between = between "integer or floating point number" number;

  lines = mkOptionType {
    name = "strings concatenated with \"\\n\"";
    check = isString;
    merge = _: definitions: concatStringsSep "\n" (valuesOf definitions);
  };

  unspecified = mkOptionType {
    name = "unspecified value";
    merge =
      path: definitions:
      if all isList (valuesOf definitions) then
        concatLists (valuesOf definitions)
      else if length definitions > 1 && all isAttrs (valuesOf definitions) then
        foldl' (merged: set: merged // set) { } (valuesOf definitions)
      else
        mergeEqual path definitions;
  };

  nullOr =
    type:
    mkOptionType {
      name = "null or ${type.description}";
      check = value: value == null || type.check value;
      nested = type;
      merge =
        path: definitions:
        if all (value: value == null) (valuesOf definitions) then
          null
        else if any (value: value == null) (valuesOf definitions) then
          throw "The option `${showOption path}' is defined both null and not null."
        else
          type.merge path definitions;
    };

  either =
    left: right:
    mkOptionType {
      name = "${left.description} or ${right.description}";
      check = value: left.check value || right.check value;
      merge =
        path: definitions:
        if all left.check (valuesOf definitions) then
          left.merge path definitions
        else if all right.check (valuesOf definitions) then
          right.merge path definitions
        else
          mergeEqual path definitions;
    };
  oneOf = types: foldl' either (head types) (builtins.tail types);

  listOf =
    type:
    mkOptionType {
      name = ofElements "list" type;
      check = isList;
      nested = type;
      wrap = at: at ++ [ "*" ];
      merge =
        at: definitions:
        concatMap (
          element: if isDefined [ element ] then [ (evaluate (at ++ [ "*" ]) type [ element ]) ] else [ ]
        ) (concatLists (valuesOf definitions));
    };

  attrsOf =
    type:
    mkOptionType {
      name = ofElements "attribute set" type;
      check = value: isAttrs value && !isDerivation value;
      nested = type;
      wrap = at: at ++ [ "<name>" ];
      merge =
        at: definitions:
        let
          sets = concatMap pushDown (valuesOf definitions);
          definitionsOf = name: concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]) sets;
          names = filter (name: isDefined (definitionsOf name)) (unique (concatMap attrNames sets));
        in
        genAttrs names (name: evaluate (at ++ [ name ]) type (definitionsOf name));
    };

  submodule =
    module:
    mkOptionType {
      name = "submodule";
      check = value: isAttrs value || isFunction value;
      submodules = toList module;
      merge =
        at: definitions:
        (evalModules {
          modules =
            toList module
            ++ map (value: if isFunction value then value else { config = value; }) (valuesOf definitions);
          prefix = at;
          specialArgs.name = last at;
        }).config;
    };
}
