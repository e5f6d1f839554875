// The same in GJS, for GNOME programs: gjs -m desktop_client.js tiny "Why is the sky blue?"
import Gio from "gi://Gio";
import GioUnix from "gi://GioUnix";
import GLib from "gi://GLib";

const [NAME, PATH] = ["org.unifiedllm1", "/org/unifiedllm1"];
const [model, prompt] = ARGV;
const bus = Gio.DBus.system;

const call = (member, args, fds = null) =>
    bus.call_with_unix_fd_list_sync(NAME, PATH, `${NAME}.Manager`, member, args, null,
        Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION, -1, fds, null);

const [listed] = call("ListModels", new GLib.Variant("(a{sv})", [{}]));
for (const [id, state] of listed.deepUnpack()[0])
    print(`${id}: ${state}`);

bus.signal_subscribe(NAME, "org.freedesktop.DBus.Properties", "PropertiesChanged", null,
    `${NAME}.Model`, Gio.DBusSignalFlags.NONE, (_bus, _sender, path, _iface, _signal, changes) => {
        const { State: state } = changes.deepUnpack()[1];
        if (state)
            print(`[${path} is now ${state.deepUnpack()}]`);
    });

const options = { max_tokens: new GLib.Variant("u", 64) };
const [reply, fds] = call("Generate",
    new GLib.Variant("(sa(ss)a{sv})", [model, [["user", prompt]], options]));
const stream = new Gio.DataInputStream({
    base_stream: new GioUnix.InputStream({ fd: fds.get(reply.deepUnpack()[2]), close_fd: true }),
});

const loop = new GLib.MainLoop(null, false);
const next = () => stream.read_line_async(GLib.PRIORITY_DEFAULT, null, (_stream, result) => {
    const [line] = stream.read_line_finish_utf8(result);
    if (line === null)
        return loop.quit();
    const { text, error } = JSON.parse(line);
    print(text ?? error?.message ?? "");
    return next();
});
next();
loop.run();
