"""Fuzzing of untrusted input: first the corpus, then as many mutated inputs as FUZZ_EXAMPLES states."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from zarr_s3_async.codecs import list_codecs
from zarr_s3_async.errors import ChunkDecodeError

from . import arguments, chunks, oracles
from .mutations import TOKENS, mutated
from .oracles import Run
from .targets import CORPUS, TARGETS, seeds_of

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "400"))
"""Number of mutated inputs of each target; they are the same in every run."""
MOST_BYTES = 200_000


@pytest.fixture(scope="module", params=TARGETS)
def target(request: pytest.FixtureRequest) -> Iterator[tuple[str, Run]]:
    with TARGETS[request.param]() as run:
        yield request.param, run


@pytest.fixture(scope="module")
def of_chunks() -> Iterator[Run]:
    with chunks.target() as run:
        yield run


def checked(run: Run, data: bytes) -> None:
    try:
        run(data)
    except Exception as error:
        error.add_note(f"the input, to be kept in tests/fuzz/corpus: {data!r}")
        raise


def test_the_corpus_breaks_no_promise(target: tuple[str, Run]) -> None:
    name, run = target
    seeds = seeds_of(name)
    assert len(seeds) >= 6
    for data in seeds.values():
        checked(run, data)


def test_mutated_inputs_break_no_promise(target: tuple[str, Run]) -> None:
    name, run = target
    rng, seeds = random.Random(name), list(seeds_of(name).values())
    for number in range(EXAMPLES // 3 if name == "shards" else EXAMPLES):
        seed = seeds[number % len(seeds)]
        checked(run, mutated(seed, rng.choice(seeds), rng, TOKENS.get(name, [])))


OPTIONAL = {"numcodecs.pcodec", "numcodecs.zfpy", "msgpack2"}


@pytest.mark.parametrize("name", arguments.METHODS)
def test_every_value_of_every_argument_gives_a_result_or_one_of_our_errors(name: str) -> None:
    """One argument at a time is tested, and the others are valid; the target `arguments` changes several."""
    with arguments.target() as run:
        for number in range(len(arguments.METHODS[name].arguments)):
            for value in range(len(arguments.VALUES)):
                checked(run, f"{name}\n".encode() + bytes([number, value]))


def test_every_codec_is_in_a_chain_of_the_fuzzer() -> None:
    """Otherwise a new codec would not be tested with damaged data."""
    used = {step if isinstance(step, str) else step[0] for steps in chunks.CHAINS.values() for step in steps}
    absent = OPTIONAL - set(chunks.CHAINS)  # if their packages are not installed
    assert set(list_codecs()) - used == absent


def test_every_chain_of_the_fuzzer_has_a_seed() -> None:
    kept = {data.partition(b"\n")[0].decode() for data in seeds_of("chunks").values()}
    assert set(chunks.CHAINS) - OPTIONAL <= kept


@pytest.mark.parametrize("name", [name for name in chunks.CHAINS if "shard" not in name and "categorize" not in name])
def test_a_decompression_bomb_of_every_chain_is_refused_in_bounded_memory(of_chunks: Run, name: str) -> None:
    """A hundred kilobytes decode to six megabytes, although a chunk has a thousand bytes."""
    bomb = chunks.bomb_of(name)
    of_chunks(f"{name}\n".encode() + bomb[: 8 * 10**5])  # longer encoded data is not a bomb
    with pytest.raises(ChunkDecodeError):
        chunks.line_of(name).decode(bomb)


def test_the_corpora_are_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MOST_BYTES


def test_the_memory_check_detects_memory_that_was_allocated_and_not_used() -> None:
    """The check itself is tested: without it, no bomb would be detected."""
    with oracles.watching_memory(), pytest.raises(AssertionError, match="a peak of"), oracles.bounded(1000):
        bytearray(oracles.SLACK + 10_000)
