# NixOS module of unified-llm. options.nix is the interface; every other file turns it into one part
# of the system.
{
  imports = [
    ./options.nix
    ./models.nix
    ./providers.nix
    ./service.nix
    ./hardening.nix
    ./dbus.nix
    ./polkit.nix
    ./session.nix
    ./users.nix
  ];
}
