"""What the numbers of Sampling may be, what they are when nobody says, and what excludes what.

The order of use is that of llama.cpp: logit bias, penalties, DRY, top_k, typical_p, top_p, min_p,
XTC, temperature, then the draw with the seed. Mirostat takes the place of all between the bias and
the temperature, and of the draw. The defaults are those of llama.cpp's server.
"""

from dataclasses import dataclass
from typing import Final

from unified_llm.domain.chat import Sampling
from unified_llm.domain.errors import InvalidRequest

MAX_SEED: Final = 2**32 - 2  # llama.cpp takes 2**32 - 1 for "draw one"
MAX_BIASES: Final = 1024
MAX_TOP_LOGPROBS: Final = 20
MAX_TOKEN: Final = 2**31 - 1  # llama.cpp counts them in 32 bits
MAX_BIAS: Final = 100.0
"""As OpenAI has it: at -100 a token is as good as forbidden, at 100 as good as demanded."""


@dataclass(frozen=True, slots=True)
class Number:
    """One number of Sampling.

    least, most: both allowed, unless `is_open`: then the least itself is not. default: None if it
    is drawn. off: where it changes nothing; None if it is never off by itself.
    """

    least: float
    most: float
    default: float | None
    off: float | None = None
    is_open: bool = False

    def allows(self, value: float) -> bool:
        """Whether `value` is a number in range."""
        # Also false for NaN, which compares with nothing.
        return self.least <= value <= self.most and not (self.is_open and value == self.least)

    def __str__(self) -> str:
        return f"{'more than ' if self.is_open else ''}{self.least} to {self.most}"


# repeat_penalty divides logits, and one near 0 makes infinities of them. The windows bound what a
# token costs: 0.2 ms with DRY at 4,096 tokens and a vocabulary of 49,152.
NUMBERS: Final[dict[str, Number]] = {
    "temperature": Number(0, 2, 0.8),
    "top_p": Number(0, 1, 0.95, off=1, is_open=True),
    "top_k": Number(0, 1000, 40, off=0),
    "min_p": Number(0, 1, 0.05, off=0),
    "typical_p": Number(0, 1, 1, off=1, is_open=True),
    "repeat_penalty": Number(0.01, 2, 1, off=1),
    "repeat_last_n": Number(0, 4096, 64),
    "frequency_penalty": Number(-2, 2, 0, off=0),
    "presence_penalty": Number(-2, 2, 0, off=0),
    "dry_multiplier": Number(0, 100, 0, off=0),
    "dry_base": Number(1, 10, 1.75),
    "dry_allowed_length": Number(0, 4096, 2),
    "dry_penalty_last_n": Number(0, 4096, 64),
    "xtc_probability": Number(0, 1, 0, off=0),
    "xtc_threshold": Number(0, 1, 0.1),
    "mirostat": Number(0, 2, 0, off=0),
    "mirostat_tau": Number(0, 10, 5),
    "mirostat_eta": Number(0, 1, 0.1),
    "seed": Number(0, MAX_SEED, None),
}

_REPLACED_BY_MIROSTAT: Final = (
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
    "dry_multiplier",
    "xtc_probability",
)


def ensure_sane_sampling(sampling: Sampling) -> None:
    """Raise InvalidRequest, naming the field and what is allowed, unless all of it makes sense."""
    for name, number in NUMBERS.items():
        value = getattr(sampling, name)
        if value is not None and not number.allows(value):
            raise InvalidRequest(f"{name} is {value}; allowed is {number}.", parameter=name)
    _check_biases(sampling.logit_bias)
    _check_mirostat(sampling)


def _check_biases(biases: tuple[tuple[int, float], ...]) -> None:
    if len(biases) > MAX_BIASES:
        raise InvalidRequest(
            f"logit_bias has {len(biases)} entries; the most is {MAX_BIASES}.",
            parameter="logit_bias",
        )
    for token, bias in biases:
        if not (0 <= token <= MAX_TOKEN and -MAX_BIAS <= bias <= MAX_BIAS):
            raise InvalidRequest(
                f"logit_bias of token {token} is {bias}; allowed are tokens from 0 on and "
                f"{-MAX_BIAS:g} to {MAX_BIAS:g}.",
                parameter="logit_bias",
            )


def _check_mirostat(sampling: Sampling) -> None:
    if not sampling.mirostat:
        return
    for name in _REPLACED_BY_MIROSTAT:
        if getattr(sampling, name) not in (None, NUMBERS[name].off):
            raise InvalidRequest(
                f"mirostat is {sampling.mirostat}, and takes the place of {name}.",
                hint=f"Send one of them; {name} is off at {NUMBERS[name].off}.",
                parameter=name,
            )
