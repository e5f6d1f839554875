# Units as systemd reads them, by the rules of nixpkgs' nixos/lib/systemd-lib.nix.
{ lib }:
let
  inherit (lib)
    concatLists
    concatStringsSep
    filterAttrs
    mapAttrsToList
    toList
    ;

  render =
    value:
    if value == true then
      "true"
    else if value == false then
      "false"
    else
      toString value;

  section =
    title: directives:
    concatStringsSep "\n" (
      [ "[${title}]" ]
      ++ concatLists (mapAttrsToList (name: value: map (each: "${name}=${render each}") (toList value)) directives)
    )
    + "\n";

  unitSection =
    unit:
    section "Unit" (
      unit.unitConfig
      // filterAttrs (_: value: value != "") {
        Description = unit.description;
        After = toString unit.after;
        Requires = toString unit.requires;
      }
    );
  # NixOS has its own way of enabling units; elsewhere it is `systemctl enable` that reads this.
  installSection = unit: section "Install" { WantedBy = toString unit.wantedBy; };
in
{
  service =
    unit:
    concatStringsSep "\n" [
      (unitSection unit)
      (section "Service" unit.serviceConfig)
      (installSection unit)
    ];
  socket =
    unit:
    concatStringsSep "\n" [
      (unitSection unit)
      (section "Socket" ({ ListenStream = unit.listenStreams; } // unit.socketConfig))
      (installSection unit)
    ];
}
