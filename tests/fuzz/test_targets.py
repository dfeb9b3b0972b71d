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
"""Changed inputs of each target; the same ones in every run."""
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


def test_the_kept_inputs_keep_every_promise(target: tuple[str, Run]) -> None:
    name, run = target
    seeds = seeds_of(name)
    assert len(seeds) >= 6
    for data in seeds.values():
        checked(run, data)


def test_changed_inputs_keep_every_promise(target: tuple[str, Run]) -> None:
    name, run = target
    rng, seeds = random.Random(name), list(seeds_of(name).values())
    for number in range(EXAMPLES // 3 if name == "shards" else EXAMPLES):
        seed = seeds[number % len(seeds)]
        checked(run, mutated(seed, rng.choice(seeds), rng, TOKENS.get(name, [])))


OPTIONAL = {"numcodecs.pcodec", "numcodecs.zfpy", "msgpack2"}


@pytest.mark.parametrize("name", arguments.METHODS)
def test_every_value_of_every_argument_ends_in_a_result_or_an_error_of_ours(name: str) -> None:
    """One argument at a time, the others right; the target above gives several at once."""
    with arguments.target() as run:
        for number in range(len(arguments.METHODS[name].arguments)):
            for value in range(len(arguments.VALUES)):
                checked(run, f"{name}\n".encode() + bytes([number, value]))


def test_every_codec_has_a_chain() -> None:
    """A new codec gets one, or it is not tested against damage."""
    used = {step if isinstance(step, str) else step[0] for steps in chunks.CHAINS.values() for step in steps}
    absent = OPTIONAL - set(chunks.CHAINS)  # where their packages are missing
    assert set(list_codecs()) - used == absent


def test_every_chain_has_a_seed() -> None:
    kept = {data.partition(b"\n")[0].decode() for data in seeds_of("chunks").values()}
    assert set(chunks.CHAINS) - OPTIONAL <= kept


@pytest.mark.parametrize("name", [name for name in chunks.CHAINS if "shard" not in name and "categorize" not in name])
def test_a_bomb_behind_every_chain_is_refused_in_bounded_memory(of_chunks: Run, name: str) -> None:
    """A hundred kilobytes that decode to six megabytes, where a chunk has a thousand bytes."""
    bomb = chunks.bomb_of(name)
    of_chunks(f"{name}\n".encode() + bomb[: 8 * 10**5])  # what is as long as that is no bomb
    with pytest.raises(ChunkDecodeError):
        chunks.line_of(name).decode(bomb)


def test_the_corpora_are_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MOST_BYTES


def test_an_oracle_sees_memory_that_was_only_claimed() -> None:
    """The watch itself: without it no bomb would be noticed."""
    with oracles.watching_memory(), pytest.raises(AssertionError, match="bytes at once"), oracles.bounded(1000):
        bytearray(oracles.SLACK + 10_000)
