# Modules to a configuration.
{
  any,
  attrNames,
  concatMap,
  filter,
  filterAttrs,
  foldl',
  head,
  isFunction,
  isOption,
  isPath,
  isString,
  lib,
  map,
  mapAttrs,
  mkMerge,
  mkOptionDefault,
  pushDown,
  recursiveUpdate,
  reverseList,
  showOption,
  types,

  ...
}:
let
  sections = [
    "config"
    "freeformType"
    "imports"
    "options"
  ];

  # Any way of writing a module, as a set of all sections. Without `config` or `options`, what stands
  # beside `imports` is the configuration.
  normalise =
    arguments: module:
    if isPath module || isString module then
      normalise arguments (import module)
    else if isFunction module then
      normalise arguments (module arguments)
    else if module ? config || module ? options then
      let
        unknown = attrNames (removeAttrs module sections);
      in
      if unknown != [ ] then
        throw "Module has an unsupported attribute `${head unknown}'."
      else
        {
          config = { };
          freeformType = null;
          imports = [ ];
          options = { };
        }
        // module
    else
      normalise arguments {
        config = removeAttrs module [ "imports" ];
        imports = module.imports or [ ];
      };

  withImports =
    arguments:
    concatMap (
      module:
      let
        own = normalise arguments module;
      in
      [ own ] ++ withImports arguments own.imports
    );

  joinOptions =
    path: left: right:
    if isOption left || isOption right then
      throw "The option `${showOption path}' is already declared."
    else
      left
      // mapAttrs (
        name: declaration:
        if left ? ${name} then joinOptions (path ++ [ name ]) left.${name} declaration else declaration
      ) right;

  definitionsOf = name: sets: concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]) sets;

  evaluateOption =
    path: option: definitions:
    (option.apply or (value: value)) (
      types.evaluate path (option.type or types.unspecified) (
        definitions ++ (if option ? default then [ (mkOptionDefault option.default) ] else [ ])
      )
    );

  evaluateTree =
    path: options: sets:
    mapAttrs (
      name: declaration:
      let
        here = path ++ [ name ];
        definitions = definitionsOf name sets;
      in
      if isOption declaration then
        evaluateOption here declaration definitions
      else
        evaluateTree here declaration (concatMap pushDown definitions)
    ) options;

  # What is left of a set of definitions without those that `options` declare.
  undeclared =
    options: set:
    mapAttrs
      (
        name: value:
        if options ? ${name} then mkMerge (map (undeclared options.${name}) (pushDown value)) else value
      )
      (
        filterAttrs (
          name: value:
          !(options ? ${name})
          || !isOption options.${name}
          && any (inner: undeclared options.${name} inner != { }) (pushDown value)
        ) set
      );

  # Where the first of them stands.
  pathOf =
    path: options: set:
    let
      name = head (attrNames set);
      here = path ++ [ name ];
      inside = filter (inner: inner != { }) (pushDown set.${name});
    in
    if options ? ${name} then pathOf here options.${name} (head inside) else here;

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
      ...
    }:
    let
      arguments = specialArgs // {
        inherit config lib options;
      };
      # As nixpkgs has it, definitions of later modules come first.
      all = reverseList (withImports arguments modules);
      options = foldl' (joinOptions prefix) { } (map (module: module.options) all);
      freeformTypes = filter (type: type != null) (map (module: module.freeformType) all);
      sets = concatMap (module: pushDown module.config) all;
      declared = evaluateTree prefix options sets;
      others = filter (set: set != { }) (map (undeclared options) sets);
      config =
        if others == [ ] then
          declared
        else if freeformTypes == [ ] then
          throw "The option `${showOption (pathOf prefix options (head others))}' does not exist."
        else
          recursiveUpdate (types.evaluate prefix (head freeformTypes) others) declared;
    in
    {
      inherit config options;
    };
in
{
  inherit evalModules;
}
