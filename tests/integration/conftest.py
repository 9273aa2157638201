"""Puts the stages of this folder where its tests can import them, and plays one run for all of them."""

import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import coincurve
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from _chain_stage import DEVELOPMENT_KEYS, running_anvil
from _run_stage import PROVED, Copy, PlayedRun, play, write_experiment

from collegium.crypto import Digest
from collegium.crypto import _beacon as beacon
from collegium.crypto import _bls as bls
from collegium.crypto import _bls_vrf as bls_vrf
from collegium.node import _chain_check as chain_check
from collegium.settlement import EmbeddedChain, Transcript

CHAINS_MAX = 8
SIGNATURES_MAX = 1 << 16
FULL = os.environ.get("COLLEGIUM_FULL") == "1"


@pytest.fixture(autouse=True, scope="session")
def _executed_once() -> Iterator[None]:
    """Execute a transcript once in each process, nine tenths of what verifying a small run takes; with
    COLLEGIUM_FULL=1 every time. One that differs in any bit is executed.
    """
    executed: dict[Transcript, EmbeddedChain] = {}
    verify_replay = chain_check.verify_replay

    def verify_new(transcript: Transcript) -> EmbeddedChain:
        chain = executed.get(transcript)
        if chain is None or (chain.state_root, chain.receipts) != (transcript.state_root, transcript.receipts):
            chain = executed[transcript] = verify_replay(transcript)
            if len(executed) > CHAINS_MAX:
                del executed[next(iter(executed))]
        return chain

    with pytest.MonkeyPatch.context() as patch:
        if not FULL:
            patch.setattr(chain_check, "verify_replay", verify_new)
        yield


@pytest.fixture(autouse=True, scope="session")
def _checked_once() -> Iterator[None]:
    """Check a signature once in each process, a quarter of what verifying a damaged run takes; with COLLEGIUM_FULL=1
    every time. One that differs in any bit is checked, and one that does not hold every time.
    """
    held: set[tuple[bytes, Digest, bytes, bytes]] = set()
    check_signature, recover = bls.check_signature, coincurve.PublicKey.from_signature_and_message

    def check_new(domain: bytes, digest: Digest, key: bls.G2, signature: bytes) -> None:
        what = (domain, digest, bls.backend().encode_g2(key), signature)
        if what not in held:
            check_signature(domain, digest, key, signature)
            if len(held) > SIGNATURES_MAX:
                held.clear()
            held.add(what)

    with pytest.MonkeyPatch.context() as patch:
        if not FULL:
            for module in (bls, beacon, bls_vrf):
                patch.setattr(module, "check_signature", check_new)
            patch.setattr(coincurve.PublicKey, "from_signature_and_message", lru_cache(SIGNATURES_MAX)(recover))
        yield


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """A run of three rounds with an absent and a lying seat. Nobody may change its folder."""
    folder = tmp_path_factory.mktemp("played")
    return play(write_experiment(folder), folder / "run")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """Another run of the very same experiment."""
    folder = tmp_path_factory.mktemp("other")
    return play(write_experiment(folder), folder / "run")


@pytest.fixture(scope="session")
def proved(tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """The run of the same experiment in which every report carries a proof of its training step."""
    folder = tmp_path_factory.mktemp("proved")
    return play(write_experiment(folder, PROVED), folder / "run")


@pytest.fixture
def copy(played: PlayedRun, tmp_path: Path) -> Copy:
    """A copy of the run to damage."""
    return Copy.of(played.path, tmp_path / "copy")


@pytest.fixture(scope="session")
def node() -> Iterator[str]:
    """The address of a fresh anvil."""
    with running_anvil() as url:
        yield url


@pytest.fixture(scope="session")
def development_key() -> str:
    """The key of the account that pays."""
    return DEVELOPMENT_KEYS[0]
