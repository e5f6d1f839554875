"""The first thing a loaded model does: a request that shows whether it works, and what it can."""

from typing import Final

from unified_llm.domain.chat import Message, Role, Sampling
from unified_llm.domain.errors import InvalidRequest, ModelFailedToLoad
from unified_llm.worker.model_port import DecodeError, Model
from unified_llm.worker.sampling import resolve_sampling
from unified_llm.worker.slots import Feed, Seat

_TRIAL: Final = 0  # no request of the daemon has this number
# As llama-server warms up: the least that is a product of matrices. 8 tokens took 50 ms, 2 take 18.
_TRIAL_TOKENS: Final = 2


def try_out(model: Model, adapter: str | None = None) -> bool:
    """Compute one token and throw it away: a model that can not do that must not be called ready.

    Returns whether the model can take back the latest token. Raises ModelFailedToLoad.
    """
    most = min(model.context_tokens - 1, _TRIAL_TOKENS)
    seat = Seat(_TRIAL, slot=0, cached=0, source=None)
    try:
        prompt = model.encode([Message(Role.USER, "Hello")])[:most]
        model.begin(
            seat,
            resolve_sampling(Sampling(temperature=0), lambda: 0, model.vocabulary_size),
            prompt,
            None,
        )
        feed = Feed(0, _TRIAL, 0, tuple(prompt), is_last=True, adapter=adapter)
        model.decode([feed], lambda: False)
        model.piece(model.sample(0))
        return model.truncate(0, len(prompt) - 1)
    except (DecodeError, InvalidRequest) as error:
        raise ModelFailedToLoad(f"The model does not answer a trial request: {error}") from error
    finally:
        model.end(0)
        model.truncate(0, 0)
