# The settings that shape the service besides being read by the daemon. Names, defaults and ranges are
# the daemon's own (docs/reference/settings.md); a test compares them.
{ lib }:
let
  inherit (lib) mkOption types;
  # A day, as everywhere in the daemon's schema.
  seconds = types.numbers.between 0 86400;
in
{
  dbus.enabled = mkOption {
    type = types.bool;
    default = true;
    description = "Whether the daemon is on D-Bus. Its policy and activation are installed only then.";
  };

  dbus.address = mkOption {
    type = types.nullOr types.str;
    default = null;
    description = "D-Bus address of the bus; null for the system bus.";
  };

  dbus.authority = mkOption {
    type = types.enum [
      "polkit"
      "groups"
    ];
    default = "polkit";
    description = "Who decides what a caller on D-Bus may: polkit by its rules, or the groups alone.";
  };

  log.level = mkOption {
    type = types.enum [
      "debug"
      "info"
      "warning"
      "error"
    ];
    default = "info";
    description = "Least severe level that is logged. Prompts and answers never are.";
  };

  scheduler.drain_seconds = mkOption {
    type = seconds;
    default = 30;
    description = "Time running answers get to end before their model is unloaded or the service stops.";
  };

  scheduler.stop_seconds = mkOption {
    type = seconds;
    default = 5;
    description = "Time a worker gets to end by itself before it is killed.";
  };

  socket.path = mkOption {
    type = types.externalPath;
    default = "/run/unified-llm/api.sock";
    description = "Where the Unix socket is that speaks the OpenAI API.";
  };

  socket.mode = mkOption {
    type = types.strMatching "0[0-7]{3}";
    default = "0660";
    description = "Permissions of the socket.";
  };

  socket.group = mkOption {
    type = types.str;
    default = "unified-llm";
    description = "Group of the socket.";
  };
}
