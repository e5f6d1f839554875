"""What the worker's dry run says of one model: run as a child, as a worker is.

`python -m tests.bench.rehearsal '{"path": …, "context": …, "slots": …}'` prints the bytes of caches
and of working buffers as JSON.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from tests.bench.allocation import Case
from unified_llm.domain.measurements import DryRun
from unified_llm.domain.units import Bytes

_LIMIT_SECONDS = 300


def measure_rehearsal(path: Path, case: Case) -> DryRun:
    """A dry run in a child process."""
    question = json.dumps({"path": str(path), **asdict(case)})
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.rehearsal", question],
        capture_output=True,
        text=True,
        timeout=_LIMIT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{path.name}, {case}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    return DryRun(Bytes(found["cache"]), {"ram": Bytes(found["working"])})


def main() -> None:
    from unified_llm.worker.engine import rehearse_llama
    from unified_llm.worker.protocol import Load

    asked = json.loads(sys.argv[1])
    load = Load(
        model="bench",
        path=asked["path"],
        context_tokens=asked["context"],
        slots=asked["slots"],
        threads=1,
        cache_type=asked["cache_type"],
    )
    said = rehearse_llama(load)
    print(json.dumps({"cache": said.cache_bytes, "working": said.working_bytes}))


if __name__ == "__main__":
    main()
