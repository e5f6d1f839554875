# The sandbox. Everything systemd can take away is taken away; each line that is looser than it could
# be says why.
{ config, lib, ... }:
let
  cfg = config.services.unified-llm;
  usesDevices = cfg.acceleration != "none" || cfg.hardening.extraDeviceAllow != [ ];
  reach = import ./reach.nix { inherit lib; } (cfg.settings.providers or { });
in
{
  config = lib.mkIf cfg.enable {
    systemd.services.unified-llm.serviceConfig = {
      # Privileges: none are needed, not even to read how much memory a GPU has left.
      CapabilityBoundingSet = "";
      AmbientCapabilities = "";
      NoNewPrivileges = true;
      RestrictSUIDSGID = true;
      KeyringMode = "private";
      # Not `true`: it would show every caller on the socket as nobody (SO_PEERCRED in a user namespace
      # that maps only root and the service). An identity map keeps the uids apart; systemd >= 257.
      PrivateUsers = "identity";

      # Files. Outside its state and cache directories the service writes nowhere.
      ProtectSystem = "strict";
      ProtectHome = if cfg.hardening.readableHome then "read-only" else true;
      PrivateTmp = true;
      PrivateMounts = true;

      # Kernel and machine.
      ProtectClock = true;
      ProtectControlGroups = true;
      ProtectHostname = true;
      ProtectKernelLogs = true;
      ProtectKernelModules = true;
      ProtectKernelTunables = true;
      RestrictRealtime = true;

      # Processes. ProcSubset is not `pid`: the memory budget comes from /proc/meminfo.
      ProtectProc = "invisible";
      ProcSubset = "all";
      PrivateIPC = true;
      RemoveIPC = true;
      RestrictNamespaces = true;
      LockPersonality = true;
      MemoryDenyWriteExecute = cfg.hardening.memoryDenyWriteExecute;

      # Network: none, unless a provider is on it. Callers come over the socket that systemd opened, and
      # over the bus. Loopback is the machine's own, so even that takes its network; addresses elsewhere
      # are not listed, since systemd wants numbers and a provider's change.
      PrivateNetwork = reach == "nowhere";
      IPAddressDeny = lib.mkIf (reach != "anywhere") "any";
      IPAddressAllow = lib.mkIf (reach == "loopback") "localhost";
      RestrictAddressFamilies = [
        "AF_UNIX"
      ]
      ++ lib.optionals (reach != "nowhere") [
        "AF_INET"
        "AF_INET6"
      ];

      # System calls. @sandbox is added because @system-service lacks Landlock's calls, with which
      # workers confine themselves. @resources, a part of @system-service, stays: llama.cpp sets the
      # affinity of its threads, and CUDA memory policies. EPERM instead of a kill, since libraries
      # probe for calls they can do without.
      SystemCallArchitectures = "native";
      SystemCallFilter = [
        "@system-service"
        "@sandbox"
        "~@privileged"
      ];
      SystemCallErrorNumber = "EPERM";

      # Devices. PrivateDevices would hide /dev/nvidia* from the service.
      PrivateDevices = !usesDevices;
      DevicePolicy = "closed";
      DeviceAllow =
        lib.optionals (cfg.acceleration == "cuda") [
          # Drivers from 550.40 on call the first group nvidia, older ones nvidia-frontend. Groups that
          # this machine does not have are ignored.
          "char-nvidia rw"
          "char-nvidia-frontend rw"
          "char-nvidiactl rw"
          "char-nvidia-caps rw"
          "char-nvidia-uvm rw"
        ]
        ++ cfg.hardening.extraDeviceAllow;
    };
  };
}
