"""Mutated model files against the header reader.

`python -m tests.bench.headers [--mutants 200000] [--seed 1]` takes up to a quarter of an hour.
Every file must give a header or one of the reader's own refusals; anything else ends it with a
traceback, the seed and the number of the file. A file with a million keys and a vocabulary of
262,144 tokens are timed.
"""

import argparse
import random
import time
from collections import Counter

from tests.bench.bars import Bar, print_bars
from tests.real_models import smollm2
from tests.unit.gguf.mutants import mutant
from tests.unit.gguf.writing import BytesSource, Entry, ModelFile
from unified_llm.gguf.header import read_header
from unified_llm.gguf.reader import NotAModel
from unified_llm.registry.files import ModelFiles


def answers(mutants: int, seed: int) -> Counter[str]:
    """How many were accepted, and how many refused."""
    found: Counter[str] = Counter()
    for number in range(mutants):
        content = mutant(random.Random(f"{seed}:{number}"))
        try:
            read_header(BytesSource(content), len(content))
        except NotAModel:
            found["refused"] += 1
        except Exception as error:
            raise RuntimeError(f"mutant {number} of seed {seed}") from error
        else:
            found["accepted"] += 1
    return found


def seconds_for_many_keys() -> float:
    """A million keys, all of them there."""
    keys = tuple(Entry(f"k{number:07d}", "u32", number) for number in range(1_000_000))
    return _seconds_to_read(ModelFile(entries=keys).packed())


def seconds_for_large_vocabulary() -> float:
    """262,144 tokens, as Gemma's."""
    tokens = [f"token{number}" for number in range(262_144)]
    model = ModelFile().having(
        Entry("tokenizer.ggml.model", "string", "gpt2"),
        Entry("tokenizer.ggml.tokens", "array", tokens, "string"),
        Entry("tokenizer.ggml.scores", "array", [0.0] * len(tokens), "f32"),
        Entry("tokenizer.ggml.token_type", "array", [1] * len(tokens), "i32"),
    )
    return _seconds_to_read(model.packed())


def _seconds_to_read(content: bytes) -> float:
    began = time.perf_counter()
    try:
        read_header(BytesSource(content), len(content))
    except NotAModel as refusal:
        print(f"refused: {refusal}")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutated model files against the header reader.")
    parser.add_argument("--mutants", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    many_keys, vocabulary = seconds_for_many_keys(), seconds_for_large_vocabulary()
    began = time.perf_counter()
    ModelFiles().inspect(smollm2())
    real = time.perf_counter() - began
    found = answers(asked.mutants, asked.seed)
    print(f"{asked.mutants} mutants of seed {asked.seed}: {dict(found)}, no other exception")
    print_bars(
        [
            Bar("headers.million_keys_seconds", many_keys, at_most=1),
            Bar("headers.smollm2_seconds", real, at_most=0.3),
            Bar("headers.vocabulary_262144_seconds", vocabulary, at_most=3),
            Bar("headers.refused_percent", 100 * found["refused"] / asked.mutants, at_least=50),
        ]
    )


if __name__ == "__main__":
    main()
