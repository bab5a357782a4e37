"""Records become samples and prompts: the one place where wording, template, length rule and tokenizer meet."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from medtrain.artifacts import Artifact
from medtrain.config import parse
from medtrain.errors import DataError
from medtrain.ledger import Entry
from medtrain.records import Record
from medtrain.tokens import dialogue, released, template, tokenizer, truncate, words
from medtrain.tokens.config import TokensConfig
from medtrain.tokens.recipe import SYSTEM_PROMPTS, language_of, rules
from medtrain.tokens.shards import Sample
from medtrain.tokens.template import Exchange, Piece

Span = tuple[int, int]


class Renderer:
    """Turns records into what a model reads, always the same for the same config and tokenizer."""

    def __init__(self, loaded: Any, config: TokensConfig):
        self.tokenizer, self.config = loaded, config
        self.rules = rules(config)
        self._encode = tokenizer.encoder(loaded)
        vocabulary = loaded.get_vocab()
        self._control = {token: int(vocabulary[token]) for token in template.CONTROL}

    @classmethod
    def open(cls, artifact: Artifact) -> "Renderer":
        """The renderer that made a token artifact, with the artifact's own tokenizer and settings."""
        config = parse(TokensConfig, artifact.manifest["identity"]["config"])
        return cls(tokenizer.load(artifact.store), config)

    def sample(self, record: Record) -> tuple[Sample | None, list[Entry]]:
        """A record's sample, or None where it is dropped; with a ledger line for the drop and for each change."""
        read = dialogue.read(record, self.config.seed)
        problem = read if isinstance(read, dialogue.Unusable) else dialogue.check_answers(read)
        if problem is not None or isinstance(read, dialogue.Unusable):
            assert problem is not None
            return None, [_entry(record, problem.rule, problem.detail, dropped=True)]
        entries: list[Entry] = []
        if not read.answered:
            read = replace(read, exchanges=read.exchanges[:-1])
            entries.append(_entry(record, "unanswered-turn-cut", "the last question has no answer"))
        pieces = self._pieces(read.system, record, read.exchanges)
        if self._count(pieces) <= self.config.context_tokens:
            return self._sample(record, *self._ids(pieces)), entries
        cut = self._cut_as_released if self.rules.cut == "script" else self._cut_by_paragraphs
        sample, more = cut(record, read, pieces)
        return sample, [*entries, *more]

    def prompt(self, record: Record, reserve_tokens: int = 0) -> list[int]:
        """The ids up to and with the header of the last answer, at most `context_tokens - reserve_tokens` of them.

        An over-long prompt loses its oldest exchanges first, then the last context by the length rule.

        Raises:
            DataError: the record is no dialogue, or its last query alone is too long.
        """
        read = dialogue.read(record, self.config.seed)
        if isinstance(read, dialogue.Unusable):
            raise DataError(f"record {record.id}: {read.rule}: {read.detail}; mend or leave out the row")
        limit = self.config.context_tokens - reserve_tokens

        def asked(first: int, context: str) -> list[Piece]:
            *before, last = read.exchanges[first:]
            return self._question(read.system, record, before, replace(last, context=context))

        context = read.exchanges[-1].context
        last = len(read.exchanges) - 1
        for first in range(last + 1):
            if self._count(asked(first, context)) <= limit:
                return self._ids(asked(first, context))[0]
        kept = truncate.shorten(context, lambda text: self._count(asked(last, text)) <= limit)
        if kept is None:
            raise DataError(
                f"record {record.id}: its query takes more than {limit} tokens and a query is never cut; "
                "raise context_tokens, reserve fewer tokens, or leave out the row"
            )
        return self._ids(asked(last, kept[0]))[0]

    def reference(self, record: Record) -> str:
        """The text of the record's last answer, whole, as a perfect model would write it.

        Raises:
            DataError: the record is no dialogue.
        """
        read = dialogue.read(record, self.config.seed)
        if isinstance(read, dialogue.Unusable):
            raise DataError(f"record {record.id}: {read.rule}: {read.detail}; mend or leave out the row")
        return read.exchanges[-1].answer.strip()

    def text(self, record: Record) -> str:
        """The rendered text of a record before any cut, for people to read."""
        read = dialogue.read(record, self.config.seed)
        if isinstance(read, dialogue.Unusable):
            return ""
        return template.text_of(self._pieces(read.system, record, read.exchanges))

    def _cut_by_paragraphs(
        self, record: Record, read: dialogue.Dialogue, whole: Sequence[Piece]
    ) -> tuple[Sample | None, list[Entry]]:
        def fits(exchanges: Sequence[Exchange]) -> bool:
            return self._count(self._pieces(read.system, record, exchanges)) <= self.config.context_tokens

        structured = words.is_structured(record)
        answer_for: Callable[[str], str] | None = partial(words.answer, record) if structured else None
        fitted = None
        if structured or not words.has_wording(record.task):
            fitted = truncate.fit(read.exchanges, fits, answer_for, self.config.close_cut_answers)
        before = self._count(whole)
        if fitted is None:
            return None, [
                _entry(record, "over-long", f"{before} tokens, limit {self.config.context_tokens}", dropped=True)
            ]
        ids, spans = self._ids(self._pieces(read.system, record, fitted.exchanges))
        detail = f"{before} tokens before, {len(ids)} after all cuts"
        if not spans:
            return None, [_entry(record, "over-long", f"{detail}, none of them trained", dropped=True)]
        return self._sample(record, ids, spans), [_entry(record, rule, detail) for rule in fitted.rules]

    def _cut_as_released(
        self, record: Record, read: dialogue.Dialogue, whole: Sequence[Piece]
    ) -> tuple[Sample | None, list[Entry]]:
        *before, last = read.exchanges
        prompt = self._question(read.system, record, before, last)
        limit = self.config.context_tokens
        ids, spans = self._ids(released.cut(whole, prompt, limit, self._count))
        lost = max(0, len(ids) - limit)  # the script's collator keeps the last tokens
        spans = [(max(0, start - lost), stop - lost) for start, stop in spans if stop > lost]
        detail = f"{self._count(whole)} tokens before, {len(ids) - lost} after, {lost} off the left side"
        if not spans:
            return None, [_entry(record, "released-cut-into-prompt", detail, dropped=True)]
        return self._sample(record, ids[lost:], spans), [_entry(record, "released-cut", detail)]

    def _system(self, own: str, record: Record, instruction: str) -> str:
        language = record.language if self.rules.language_from == "record" else language_of(instruction)
        return own or SYSTEM_PROMPTS[language]

    def _pieces(self, system: str, record: Record, exchanges: Sequence[Exchange]) -> list[Piece]:
        chosen = self._system(system, record, exchanges[0].query)
        return template.chat(chosen, exchanges, self.rules.join, self.rules.join_empty)

    def _question(self, system: str, record: Record, before: Sequence[Exchange], last: Exchange) -> list[Piece]:
        chosen = self._system(system, record, (before[0] if before else last).query)
        pieces = template.head(chosen)
        for exchange in before:
            user = template.user_text(exchange, self.rules.join, self.rules.join_empty)
            pieces += template.question(user) + template.reply(exchange)
        return pieces + template.question(template.user_text(last, self.rules.join, self.rules.join_empty))

    def _piece_ids(self, piece: Piece) -> tuple[int, ...]:
        return (self._control[piece.text],) if piece.control else self._encode(piece.text)

    def _count(self, pieces: Sequence[Piece]) -> int:
        return sum(len(self._piece_ids(piece)) for piece in pieces)

    def _ids(self, pieces: Sequence[Piece]) -> tuple[list[int], list[Span]]:
        """Ids (T,) and the half-open spans of trained tokens, neighbours joined."""
        ids: list[int] = []
        spans: list[Span] = []
        for piece in pieces:
            start = len(ids)
            ids += self._piece_ids(piece)
            if piece.trained and len(ids) > start:
                joined = spans.pop()[0] if spans and spans[-1][1] == start else start
                spans.append((joined, len(ids)))
        return ids, spans

    def _sample(self, record: Record, ids: Sequence[int], spans: Sequence[Span]) -> Sample:
        names = (record.id, record.source, record.task, record.category, record.language, record.split)
        return Sample(*names, np.array(ids, dtype=np.int32), tuple(spans))


def _entry(record: Record, rule: str, detail: str, *, dropped: bool = False) -> Entry:
    return Entry("tokens", record.source, record.id, record.id, rule, detail, "dropped" if dropped else "changed")
