"""Limits on what a request may carry, the same on every door.

The doors check types; here are ranges and sizes, before anything reaches a worker. Each limit
exists because an engine without it was crashed or starved by its like
(CVE-2026-21869, CVE-2026-34756, CVE-2025-52566).
"""

from unified_llm.domain.chat import MAX_CHOICES, ChatRequest, is_plain
from unified_llm.domain.embeddings import EmbeddingRequest, RerankRequest
from unified_llm.domain.errors import InvalidRequest, TooLarge
from unified_llm.domain.sampling import MAX_TOP_LOGPROBS, ensure_sane_sampling
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.grammar.answers import answer_grammar
from unified_llm.guard.sane_images import ensure_sane_images
from unified_llm.guard.sane_text import ensure_sane_text
from unified_llm.guard.sane_tools import ensure_sane_calls, ensure_sane_tools

MAX_MESSAGES = 2048
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 64
MAX_TEXTS = 2048
# Of one request; a worker reads some 12 MiB of them per second, and does nothing else meanwhile.
MAX_TEXT_BYTES = 4 * 1024 * 1024
# No tokenizer in use needs less than one token for 16 bytes of ordinary text; a prompt that does
# not fit a context by that count is not worth tokenising.
MAX_BYTES_PER_TOKEN = 16


def ensure_sane(request: ChatRequest) -> None:
    """Raise InvalidRequest or TooLarge, with the number and the limit, unless `request` is sane.

    Whether it fits the context of a model is not asked here: that depends on who answers.
    """
    _check_messages(request)
    if request.tool_use is not None:
        ensure_sane_tools(request.tool_use)
    _check_stops(request.stop)
    ensure_sane_sampling(request.sampling)
    _check_end(request)
    answer_grammar(request.answer)  # raises if the form of the answer cannot be enforced
    top = request.top_logprobs
    if top is not None and not 0 <= top <= MAX_TOP_LOGPROBS:
        raise InvalidRequest(
            f"top_logprobs is {top}; allowed is 0 to {MAX_TOP_LOGPROBS}.",
            parameter="top_logprobs",
        )
    if not 1 <= request.choices <= MAX_CHOICES:
        raise InvalidRequest(
            f"n is {request.choices}; allowed is 1 to {MAX_CHOICES}.", parameter="n"
        )
    if request.max_tokens is not None and request.max_tokens < 1:
        raise InvalidRequest(
            f"max_tokens is {request.max_tokens}; the least is 1.", parameter="max_tokens"
        )


def ensure_sane_texts(request: EmbeddingRequest, context_tokens: Tokens | None) -> None:
    """The same for texts that shall become vectors.

    context_tokens: most tokens of one text; None if not known.
    """
    _check_texts(request.texts, "input", context_tokens)
    if request.dimensions is not None and request.dimensions < 1:
        raise InvalidRequest(
            f"dimensions is {request.dimensions}; the least is 1.", parameter="dimensions"
        )


def ensure_sane_documents(request: RerankRequest, context_tokens: Tokens) -> None:
    """The same for documents to be ranked; each is seen together with the query."""
    if not request.query.strip():
        raise InvalidRequest("The query is empty.", parameter="query")
    ensure_sane_text(request.query, "query")
    _check_texts(request.documents, "documents", context_tokens, beside=request.query)


def _check_texts(
    texts: tuple[str, ...], parameter: str, context_tokens: Tokens | None, beside: str = ""
) -> None:
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise InvalidRequest(
            f"There are {len(texts)} texts; allowed are 1 to {MAX_TEXTS}.", parameter=parameter
        )
    limit = None if context_tokens is None else context_tokens * MAX_BYTES_PER_TOKEN
    more = len(beside.encode())
    total = 0
    for index, text in enumerate(texts):
        where = f"{parameter}[{index}]"
        if not text.strip():
            raise InvalidRequest(f"{where} is empty.", parameter=where)
        ensure_sane_text(text, where)
        size = len(text.encode()) + more
        total += size
        if limit is not None and size > limit:
            raise TooLarge(
                f"{where} has {size} bytes{' with the query' if beside else ''}; {limit} is the "
                f"most for a model that sees {context_tokens} tokens at once.",
                hint="Split it into shorter texts.",
            )
    if total > MAX_TEXT_BYTES:
        raise TooLarge(
            f"The texts have {total} bytes; {MAX_TEXT_BYTES} is the most of one request.",
            hint="Send them in several requests.",
        )


def _check_messages(request: ChatRequest) -> None:
    count = len(request.messages)
    if count == 0:
        raise InvalidRequest(
            "There are no messages.",
            hint="Send at least one message with role `user`.",
            parameter="messages",
        )
    if count > MAX_MESSAGES:
        raise TooLarge(f"There are {count} messages; the most is {MAX_MESSAGES}.")
    if not any(message.content.strip() or message.images for message in request.messages):
        raise InvalidRequest("Every message is empty.", parameter="messages")
    ensure_sane_images(request.messages)
    for index, message in enumerate(request.messages):
        ensure_sane_text(message.content, f"messages[{index}].content")
        ensure_sane_calls(message, f"messages[{index}]")


def tokens_at_least(size: Bytes) -> Tokens:
    """How many tokens a text of that size has at least, whatever the vocabulary."""
    return Tokens(-(-size // MAX_BYTES_PER_TOKEN))


def _check_stops(stops: tuple[str, ...]) -> None:
    if len(stops) > MAX_STOPS:
        raise InvalidRequest(
            f"There are {len(stops)} stop texts; the most is {MAX_STOPS}.", parameter="stop"
        )
    for index, stop in enumerate(stops):
        parameter = f"stop[{index}]"
        if not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
            raise InvalidRequest(
                f"A stop text has {len(stop)} characters; allowed are 1 to {MAX_STOP_CHARACTERS}.",
                parameter=parameter,
            )
        ensure_sane_text(stop, parameter)


def _check_end(request: ChatRequest) -> None:
    if request.may_continue and not is_plain(request):
        raise InvalidRequest(
            "Only an answer in plain text can be continued, without tools, a form or logprobs.",
            hint="Leave out `continue`, or the others.",
            parameter="x_unified_llm.continue",
        )
    # A grammar that is done admits nothing but the end; without it native code would abort.
    if request.sampling.ignore_eos and (request.answer or request.tool_use):
        raise InvalidRequest(
            "ignore_eos is set, and the answer has a form that tells where it ends.",
            hint="Send either ignore_eos, or tools or response_format.",
            parameter="ignore_eos",
        )
