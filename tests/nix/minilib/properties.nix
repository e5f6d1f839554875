# mkIf, mkMerge and mkOverride, and how a definition that carries them is taken apart.
{
  concatMap,
  elem,
  filter,
  foldl',
  isAttrs,
  map,
  mapAttrs,
  ...
}:
let
  kindOf = value: if isAttrs value then value._type or null else null;
  strongestOf = foldl' (best: each: if each.priority < best then each.priority else best) 10000;
in
rec {
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkForce = mkOverride 50;
  defaultPriority = 100;
  mkDefault = mkOverride 1000;
  mkOptionDefault = mkOverride 1500;

  # A definition of an attribute set, as plain sets whose members carry the properties. No condition is
  # evaluated, so one option may be defined under a condition on another of the same set.
  pushDown =
    definition:
    {
      "if" = map (mapAttrs (_: mkIf definition.condition)) (pushDown definition.content);
      "override" = map (mapAttrs (_: mkOverride definition.priority)) (pushDown definition.content);
      "merge" = concatMap pushDown definition.contents;
    }
    .${if isProperty definition then definition._type else "plain"} or [ definition ];

  isProperty = value: elem (kindOf value) [ "if" "merge" "override" ];

  # The values a definition amounts to, with their priorities; evaluates the conditions.
  discharge =
    let
      under =
        priority: definition:
        if !isProperty definition then
          [
            {
              inherit priority;
              value = definition;
            }
          ]
        else
          {
            "if" = if definition.condition then under priority definition.content else [ ];
            "override" = under definition.priority definition.content;
            "merge" = concatMap (under priority) definition.contents;
          }
          .${definition._type};
    in
    under defaultPriority;

  isDefined = definitions: concatMap discharge definitions != [ ];

  # The values of the strongest priority.
  strongest =
    definitions:
    let
      values = concatMap discharge definitions;
      best = strongestOf values;
    in
    map (each: each.value) (filter (each: each.priority == best) values);
}
