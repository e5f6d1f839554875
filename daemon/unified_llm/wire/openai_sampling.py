"""How tokens are chosen: OpenAI's names, and llama-server's where OpenAI has none."""

import re

from unified_llm.domain.chat import Sampling
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.sampling import NUMBERS
from unified_llm.wire.fields import Shape

_TOKEN = re.compile(r"[0-9]{1,10}")


class SamplingShape(Shape):
    """The fields of a request that choose its tokens."""

    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    # Ours, as llama-server names them.
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    ignore_eos: bool | None = None

    def sampling(self) -> Sampling:
        """The domain's sampling; ranges are checked further in."""
        return Sampling(
            **{name: getattr(self, name) for name in NUMBERS},
            logit_bias=tuple((_token(key), bias) for key, bias in (self.logit_bias or {}).items()),
            ignore_eos=bool(self.ignore_eos),
        )


def _token(key: str) -> int:
    if not _TOKEN.fullmatch(key):
        raise InvalidRequest(
            f"logit_bias has the key {key[:40]!r}, which is no token.",
            hint="Its keys are numbers of tokens, as text.",
            parameter="logit_bias",
        )
    return int(key)
