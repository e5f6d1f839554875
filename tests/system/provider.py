"""A model server elsewhere, for booted.sh: OpenAI's API, for whoever has the key.

`python3 provider.py PORT KEY_FILE`, with nothing installed. It says back what it is asked, and
prints the status of each request.
"""

import hmac
import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_KEY = Path(sys.argv[2]).read_text().strip()


class _Requests(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self._has_key() and self.path == "/v1/models":
            self._answer(200, {"object": "list", "data": [{"id": "echo", "object": "model"}]})
        else:
            self._refuse()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._has_key() or self.path != "/v1/chat/completions":
            self._refuse()
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for event in _events(asked):
            self.wfile.write(f"data: {event}\n\n".encode())

    def _has_key(self) -> bool:
        given = self.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {_KEY}".encode())

    def _refuse(self) -> None:
        self._answer(401, {"error": {"message": "wrong key", "code": "invalid_api_key"}})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


def _events(asked: dict[str, Any]) -> Iterator[str]:
    said = asked["messages"][-1]["content"]
    text = said if isinstance(said, str) else "".join(part["text"] for part in said)
    steps: tuple[tuple[dict[str, str], str | None], ...] = (
        ({"role": "assistant", "content": f"You said: {text}"}, None),
        ({}, "stop"),
    )
    for delta, reason in steps:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        yield json.dumps({"object": "chat.completion.chunk", "model": "echo", "choices": [choice]})
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    yield json.dumps({"object": "chat.completion.chunk", "choices": [], "usage": usage})
    yield "[DONE]"


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Requests).serve_forever()
