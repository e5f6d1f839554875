# What the sandbox (hardening.nix) hides from the service.
{ lib, cfg }:
let
  hidden = [
    "/tmp/"
    "/var/tmp/"
  ]
  ++ lib.optionals (!cfg.hardening.readableHome) [
    "/home/"
    "/root/"
    "/run/user/"
  ];
in
{
  isHidden = path: path != null && lib.any (folder: lib.hasPrefix folder (toString path)) hidden;
}
