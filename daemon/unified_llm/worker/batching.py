"""Continuous batching: requests join and leave between decode steps of one model.

Each step feeds, in one decode, the newest token of everything that generates and as much prompt as
the step's budget allows. When a request ends, its slot's memory stays, and spares the next request
of the same principal the beginning that both share; for anybody else it is cleared (`slots`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from unified_llm.domain.chat import FinishReason
from unified_llm.domain.errors import (
    Cancelled,
    InternalError,
    InvalidRequest,
    UnifiedLlmError,
)
from unified_llm.domain.models import Speculation
from unified_llm.domain.units import Instant
from unified_llm.worker.admission import Answer, admit
from unified_llm.worker.drafting import Drafting
from unified_llm.worker.engine_port import OnProgress, Pulse, Report, Request
from unified_llm.worker.interrupts import Interrupts
from unified_llm.worker.kept_states import KeptStates
from unified_llm.worker.model_port import DecodeError, Model, OpenModel
from unified_llm.worker.protocol import Failed, Generate, Load, Loaded, Score, Started
from unified_llm.worker.slots import Feed, Remembered, Seat, SlotTable
from unified_llm.worker.telling import told, told_at_end
from unified_llm.worker.trial import try_out


class BatchingEngine:
    """The Engine over any Model.

    draw_seed: a whole number from 0 on, for requests without one. states: None if none are kept.
    now: a monotonic clock, by which it is judged whether drafts pay.
    """

    def __init__(
        self,
        open_model: OpenModel,
        draw_seed: Callable[[], int],
        states: KeptStates | None = None,
        *,
        now: Callable[[], Instant],
    ) -> None:
        self._open_model = open_model
        self._draw_seed = draw_seed
        self._states = states
        self._now = now
        self._loaded: Model | None = None
        self._adapters: tuple[str, ...] = ()
        self._slots = SlotTable(1, 1, 1)
        self._drafting = Drafting(Speculation.OFF)
        self._answers: dict[int, Answer] = {}
        self._refusals: list[Report] = []
        self._steps_done = 0
        self._looked_for = -1  # the slot
        self._interrupts = Interrupts()

    @property
    def steps_done(self) -> int:
        return self._steps_done

    @property
    def active(self) -> int:
        return self._slots.active

    @property
    def waiting(self) -> int:
        return self._slots.waiting

    @property
    def is_busy(self) -> bool:
        return (
            bool(self._refusals)
            or self._slots.has_work
            or bool(self._interrupts.among(self._answers))
        )

    @property
    def _model(self) -> Model:
        if self._loaded is None:
            raise RuntimeError("no model is loaded")
        return self._loaded

    def load(self, load: Load, on_progress: OnProgress) -> Loaded:
        model = self._loaded = self._open_model(load, on_progress)
        self._adapters = tuple(each.name for each in load.adapters)
        for adapter in self._adapters:
            try_out(model, adapter)
        can_cut = try_out(model)
        index = self._states.index if self._states is not None else None
        self._slots = SlotTable(model.slots, model.batch_tokens, model.context_tokens, index)
        self._drafting = Drafting(load.speculation)
        if not can_cut:
            self._drafting.stop("the model's memory cannot be cut back")
        return Loaded(
            context_tokens=model.context_tokens,
            slots=model.slots,
            memory_bytes=model.memory_bytes,
            gpu_bytes=model.gpu_bytes,
            description=model.description,
        )

    def close(self) -> None:
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
        if self._states is not None:
            self._states.close()

    def submit(self, request: Request) -> None:
        try:
            answer = self._accept(request)
        except UnifiedLlmError as error:
            self._refuse(_failed(request.id, error))
            return
        except DecodeError as error:
            self._refuse(Failed(id=request.id, code=InternalError.code, message=str(error)))
            return
        if self._states is not None:
            self._states.take_delivered(self._model)
        self._answers[request.id] = answer
        asked = answer.request
        self._slots.append(request.id, asked.principal, answer.prompt, asked.adapter)

    def cancel(self, request_id: int) -> None:
        if request_id in self._answers:
            self._interrupts.ask(request_id)
        else:
            self._interrupts.withdraw(request_id)

    def interrupt(self, request_id: int) -> None:
        if self._interrupts.ask(request_id) and self._loaded is not None:
            self._loaded.interrupt()

    def hurry(self) -> None:
        self._interrupts.hurry()
        if self._loaded is not None:
            self._loaded.interrupt()

    def save_states(self) -> None:
        if self._states is not None:
            for each in self._slots.remembered():
                self._keep(self._states, each)

    def drop_state(self, state: int) -> None:
        if self._states is not None:
            self._states.drop(state)

    def pause(self, request_id: int) -> None:
        self._slots.pause(request_id)

    def resume(self, request_id: int) -> None:
        self._slots.resume(request_id)

    def step(self, pulse: Pulse) -> list[Report]:
        news, self._refusals = self._refusals, []
        news += self._end_interrupted()
        news += self._seat()
        feeds = self._slots.plan(self._model.step_tokens, self._draft())
        # Told before what may take long, or be the last thing the process does.
        if news := news or self._look(feeds, pulse):
            return news
        seen = [feed for feed in feeds if not self._model.is_unseen(feed)]
        return self._decode(seen, pulse) if seen else []

    def _accept(self, request: Request) -> Answer:
        if not isinstance(request, Generate):
            raise InvalidRequest("The model makes text and no vectors.")
        if request.id in self._answers:
            raise InvalidRequest(f"Request {request.id} is already being answered.")
        if request.adapter is not None and request.adapter not in self._adapters:
            raise InvalidRequest(
                f"The model was loaded without the adapter {request.adapter}; "
                f"it has {', '.join(self._adapters) or 'none'}.",
                hint="Adapters come with their model: unload it, and it is loaded with them.",
                parameter="model",
            )
        return admit(request, self._model, self._draw_seed)

    def _refuse(self, failed: Failed) -> None:
        self._interrupts.withdraw(failed.id)
        self._refusals.append(failed)

    def _seat(self) -> list[Report]:
        reports: list[Report] = []
        for seat in self._slots.seat():
            answer = self._answers[seat.request_id]
            try:
                answer.cached_tokens = self._begin(seat, answer)
            except DecodeError as error:
                reports.append(self._fail(seat.request_id, str(error)))
                continue
            if answer.cached_tokens != seat.cached:
                self._slots.refeed(seat.request_id)
            self._drafting.begin(seat.request_id, [each for each in answer.prompt if each >= 0])
            reports.append(
                Started(
                    id=seat.request_id,
                    prompt_tokens=len(answer.prompt),
                    cached_tokens=answer.cached_tokens,
                )
            )
        return reports

    def _keep(self, states: KeptStates, what: Remembered) -> None:
        if min(what.tokens) < 0:
            return  # the numbers of pictures mean something else to the next worker
        states.keep(self._model, what.slot, what.principal, what.tokens, what.adapter)

    def _begin(self, seat: Seat, answer: Answer) -> int:
        """As Model.begin, by way of a kept state where the seat says so."""
        if self._states is not None:
            if seat.pushed_out is not None:
                self._keep(self._states, seat.pushed_out)
            if seat.kept is not None and not self._states.restore(
                self._model, seat.slot, seat.kept
            ):
                seat = replace(seat, cached=0, kept=None)
        cached = self._model.begin(seat, answer.sampling, answer.prompt, answer.grammar)
        if self._states is not None and seat.kept is not None and cached:
            self._states.used(seat.kept)
        return cached

    def _draft(self) -> dict[int, tuple[int, ...]]:
        answers = {each: self._answers[each] for each in self._slots.generating()}
        return self._drafting.drafts(
            # The last token of an answer is told, but never fed.
            {each: answer.limit - answer.completion_tokens - 1 for each, answer in answers.items()}
        )

    def _look(self, feeds: Sequence[Feed], pulse: Pulse) -> list[Report]:
        """Have one picture looked at, if `feeds` show any that is not; slots take turns."""
        unseen = [feed for feed in feeds if self._model.is_unseen(feed)]
        if not unseen:
            return []
        feed = min(unseen, key=lambda each: (each.slot <= self._looked_for, each.slot))
        self._looked_for = feed.slot
        try:
            self._model.see(feed, self._interrupts.while_looking(pulse))
        except InvalidRequest as error:
            self._forget(feed.request_id)
            return [_failed(feed.request_id, error)]
        except DecodeError as error:
            return [self._fail(feed.request_id, str(error))]
        finally:
            self._steps_done += 1
        return self._end_interrupted()

    def _decode(self, feeds: Sequence[Feed], pulse: Pulse) -> list[Report]:
        ids = frozenset(feed.request_id for feed in feeds)
        began = self._now()
        try:
            with self._interrupts.open_step(ids, pulse) as should_stop:
                is_done = self._model.decode(feeds, should_stop)
        except DecodeError as error:
            return [self._fail(feed.request_id, str(error)) for feed in feeds]
        finally:
            self._steps_done += 1
        if not is_done:
            return self._undo(feeds)
        self._drafting.note(feeds, self._now() - began)
        self._slots.had_step(feeds)
        reports: list[Report] = []
        for feed in feeds:
            self._slots.fed(feed)
            if feed.is_last:
                reports += self._take_tokens(feed)
        return reports

    def _undo(self, feeds: Sequence[Feed]) -> list[Report]:
        """An aborted step may have changed any sequence in it: those that stay are fed again."""
        for feed in feeds:
            if not self._model.truncate(feed.slot, feed.position):
                self._slots.refeed(feed.request_id)
                self._answers[feed.request_id].cached_tokens = 0
        return self._end_interrupted()

    def _take_tokens(self, feed: Feed) -> list[Report]:
        """The next token, and those after it for which its draft was right."""
        answer = self._answers[feed.request_id]
        answer.drafted_tokens += len(feed.draft)
        reports: list[Report] = []
        right = 0
        for drafted in (*feed.draft, None):
            reports += self._take_token(answer, feed.slot, drafted)
            if drafted is None or not self._slots.confirm(feed.request_id, drafted):
                break
            self._model.advance(feed.slot)
            right += 1
        if right < len(feed.draft):
            self._cut(feed, feed.end + right)
        return reports

    def _cut(self, feed: Feed, position: int) -> None:
        """Take the wrong end of a draft out of the model's memory."""
        if not self._model.truncate(feed.slot, position):
            self._slots.lose(feed.slot)
            self._drafting.stop("the model's memory could not be cut back")

    def _take_token(self, answer: Answer, slot: int, drafted: int | None) -> list[Report]:
        try:
            token = self._sample(answer, slot)
        except DecodeError as error:
            return [self._fail(answer.request.id, str(error))]
        if self._model.is_end(token):
            return self._finish(answer, FinishReason.STOP)
        answer.completion_tokens += 1
        answer.accepted_tokens += token == drafted
        was_thinking = answer.thoughts.is_thinking
        piece = answer.text.feed(self._model.piece(token), self._score(answer, slot, token))
        reports = told(answer, piece)
        if answer.thought_tokens is not None:
            answer.thought_tokens += was_thinking or answer.thoughts.is_thinking
        if answer.text.is_met:
            return reports + self._finish(answer, FinishReason.STOP)
        if answer.completion_tokens >= answer.limit:
            return reports + self._finish(answer, FinishReason.LENGTH)
        self._slots.extend(answer.request.id, token)
        self._drafting.extend(answer.request.id, token)
        return reports

    def _sample(self, answer: Answer, slot: int) -> int:
        token = self._model.sample(slot)
        if answer.calls is None or answer.thoughts.is_thinking or self._model.is_end(token):
            return token
        grammar = answer.calls.watch.grammar_from(self._model.piece(token))
        return token if grammar is None else self._model.constrain(slot, grammar, token)

    def _score(self, answer: Answer, slot: int, token: int) -> Score | None:
        top = answer.request.top_logprobs
        return None if top is None else self._model.score(slot, token, top)

    def _finish(self, answer: Answer, reason: FinishReason) -> list[Report]:
        reports = told_at_end(answer, reason)
        self._forget(answer.request.id)
        return reports

    def _end_interrupted(self) -> list[Report]:
        ended = self._interrupts.among(self._answers)
        for request_id in ended:
            self._forget(request_id)
        return [_failed(each, Cancelled("The request was cancelled.")) for each in ended]

    def _fail(self, request_id: int, reason: str) -> Failed:
        self._slots.refeed(request_id)  # nobody knows what is in the slot's memory
        self._forget(request_id)
        return Failed(id=request_id, code=InternalError.code, message=reason)

    def _forget(self, request_id: int) -> None:
        self._answers.pop(request_id, None)
        self._interrupts.withdraw(request_id)
        self._drafting.end(request_id)
        slot = self._slots.remove(request_id)
        if slot is not None:
            self._model.end(slot)


def _failed(request_id: int, error: UnifiedLlmError) -> Failed:
    parameter = error.parameter if isinstance(error, InvalidRequest) else None
    return Failed(id=request_id, code=error.code, message=str(error), parameter=parameter)
