"""What llama.cpp says is cut into lines, made harmless, and counted."""

from unified_llm.worker.native_log import NativeLog

_INFO, _WARN, _ERROR, _CONTINUED = 2, 3, 4, 5


def log() -> tuple[NativeLog, list[str]]:
    lines: list[str] = []
    return NativeLog(lines.append), lines


def test_only_warnings_and_errors_are_written() -> None:
    native, lines = log()
    native.take(_INFO, b"loading\n")
    native.take(_WARN, b"odd\n")
    native.take(_ERROR, b"bad\n")
    assert lines == ["odd", "bad"]


def test_a_line_may_come_in_pieces() -> None:
    native, lines = log()
    native.take(_WARN, b"one ")
    native.take(_CONTINUED, b"line\nand ano")
    native.take(_CONTINUED, b"ther\n")
    assert lines == ["one line", "and another"]


def test_a_hostile_line_is_made_harmless() -> None:
    native, lines = log()
    native.take(_WARN, b"\x1b[2J\r\xff" + b"x" * 2000 + b"\n")
    assert lines == ["?[2J?\ufffd" + "x" * 494]


def test_the_first_error_is_the_reason() -> None:
    native, _ = log()
    assert native.reason() == ""
    native.take(_ERROR, b"tensor 'x' not found.\n")
    native.take(_ERROR, b"failed to load model\n")
    assert native.reason() == ": tensor 'x' not found"


def test_announced_buffers_are_summed() -> None:
    native, _ = log()
    assert native.bytes_allocated is None
    native.take(_INFO, b"load_tensors:   CPU_Mapped model buffer size =    92.10 MiB\n")
    native.take(_INFO, b"llama_kv_cache:        CPU KV buffer size =    90.00 MiB\n")
    native.take(_INFO, b"something else = 5.00 MiB\n")
    assert native.bytes_allocated == round(92.1 * 2**20) + 90 * 2**20


def test_buffers_on_gpus_are_summed_apart_by_number_and_those_for_them_are_main_memory() -> None:
    native, _ = log()
    native.take(_INFO, b"load_tensors:        CUDA1 model buffer size =    10.00 MiB\n")
    native.take(_INFO, b"llama_kv_cache:      CUDA1 KV buffer size =     5.00 MiB\n")
    native.take(_INFO, b"sched_reserve:  CUDA_Host compute buffer size =     2.00 MiB\n")
    native.take(_INFO, b"load_tensors:   CPU_REPACK model buffer size =     1.00 MiB\n")
    assert native.gpu_bytes_allocated == (0, 15 * 2**20)
    assert native.bytes_allocated == 3 * 2**20


def test_a_failed_allocation_is_told_from_other_errors() -> None:
    native, _ = log()
    native.take(_ERROR, b"llama_model_load: error loading model: tensor 'x' not found\n")
    assert not native.is_out_of_memory
    native.take(_ERROR, b"llama_init_from_model: failed to allocate buffer for kv cache\n")
    assert native.is_out_of_memory


def test_caches_and_working_buffers_are_told_apart_where_nothing_is_allocated() -> None:
    native, _ = log()
    native.take(_INFO, b"llama_context:        CPU  output buffer size =     1.00 MiB\n")
    native.take(_INFO, b"llama_kv_cache:        CPU KV buffer size =     0.00 MiB\n")
    native.take(_INFO, b"llama_kv_cache: size =  180.00 MiB (  8192 cells,  30 layers)\n")
    native.take(_INFO, b"llama_kv_cache_iswa: creating SWA KV cache, size = 1536 cells\n")
    native.take(_INFO, b"llama_memory_recurrent: size =    2.00 MiB (     2 cells)\n")
    native.take(_INFO, b"sched_reserve:        CPU compute buffer size =    8.00 MiB\n")
    native.take(_INFO, b"sched_reserve:      CUDA1 compute buffer size =    4.00 MiB\n")
    assert native.cache_bytes == 182 * 2**20
    assert (native.working_bytes, native.gpu_working_bytes) == (9 * 2**20, (0, 4 * 2**20))


def test_a_step_that_was_ended_early_is_no_error_and_any_other_failure_is() -> None:
    native, lines = log()
    undone = "decode: removing memory module entries for seq_id = 0, pos = [0, +inf)"
    early = "graph_compute: ggml_backend_sched_graph_compute_async failed with error 1"
    for line in (early, "process_ubatch: failed to compute graph, compute status: 1", undone):
        native.take(_ERROR, line.encode() + b"\n")
    native.take(_ERROR, b"llama_decode: failed to decode, ret = 2\n")
    native.take(_ERROR, b"llama_encode: failed to encode, ret = 2\n")
    assert (lines, native.reason()) == ([], "")
    failures = ["llama_decode: failed to decode, ret = -2", "x: failed to decode, ret = 22"]
    failures += ["graph_compute: failed to compute graph, compute status: -1", undone]
    for line in failures:
        native.take(_ERROR, line.encode() + b"\n")
    assert lines == failures
