"""`collegium data issue` and `revoke`: a licence request becomes a licence on a chain, and consent is taken back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from collegium.apps._exit import JsonOption, UsageError, address_in, exit_codes, print_facts, print_json
from collegium.errors import CollegiumError

if TYPE_CHECKING:
    from collegium.node import LicenceRequest
    from collegium.settlement import Account, Chain, CuratorShare

__all__ = [
    "Grant",
    "LicenceNotInForceError",
    "LicenceOfAnotherError",
    "LicenceStandsError",
    "issue",
    "register",
    "revoke",
]

WHOLE: Final = 10_000  # basis points
LICENCE_BYTES_MAX: Final = 1 << 16

UrlOption = Annotated[str, typer.Option("--url", metavar="URL", help="Node of the chain that holds the licences.")]
KeyOption = Annotated[Path, typer.Option("--key", metavar="KEYS", help="The owner's key file; its account pays.")]


class LicenceOfAnotherError(CollegiumError):
    """A licence request is of another account than the key's."""


class LicenceNotInForceError(CollegiumError):
    """A licence request is not in force now."""


class LicenceStandsError(CollegiumError):
    """The same consent is on the chain already, and was not taken back."""


@dataclass(frozen=True, slots=True)
class Grant:
    """How a licence is issued.

    Attributes:
        contract: where the licences are; None creates a contract for them.
        block: the block from which to look whether the licence is there already.
        jurisdiction: two capital letters, whose law the text names.
        royalty: basis points: the least that a task must leave to earlier versions.
    """

    contract: bytes | None
    jurisdiction: str
    royalty: int
    curators: tuple[CuratorShare, ...] = ()
    block: int = 0


def issue(chain: Chain, holder: Account, request: LicenceRequest, grant: Grant, now_s: int) -> dict[str, Any]:
    """Issue the licence that a request asks for, once, and return where it is.

    Raises:
        LicenceOfAnotherError, LicenceNotInForceError, LicenceStandsError: it must not be.
        LicenceSignatureError: the owner did not sign the request.
        ContractRefusedError: the contract refuses it, with its own error.
    """
    from collegium.node import verify_licence
    from collegium.settlement import NOBODY, MoneySite, contract, issue_licence, transact

    verify_licence(request)
    if request.owner != holder.address:
        raise LicenceOfAnotherError(
            f"the request is of account 0x{request.owner.hex()}, the key's is 0x{holder.address.hex()}"
        )
    if not request.valid_from <= now_s < request.valid_until:
        raise LicenceNotInForceError(
            f"the request is in force from second {request.valid_from} to {request.valid_until}, this is {now_s}"
        )
    at = grant.contract
    if at is None:
        at = transact(chain, holder, None, contract("Licences").creation()).contract
    site = MoneySite(at or NOBODY, NOBODY, NOBODY, NOBODY)
    standing = _standing(chain, site, request, grant.block)
    if standing is not None:
        raise LicenceStandsError(f"licence {standing} says the same and was not revoked", licence=standing)
    number = issue_licence(
        chain,
        site,
        holder,
        request.data_root,
        request.terms,
        jurisdiction=grant.jurisdiction,
        royalty=grant.royalty,
        curators=grant.curators,
    )
    return {
        "number": number,
        "chain_id": chain.chain_id,
        "contract": site.licences.hex(),
        "holder": holder.address.hex(),
        "data_root": request.data_root.hex(),
        "terms": request.terms.hex(),
        "request": request.digest.hex(),
    }


def revoke(chain: Chain, holder: Account, contract: bytes, number: int) -> dict[str, Any]:
    """Take a licence's consent back, for good, and return what was sent.

    Raises:
        ContractRefusedError: NotTheHolder, AlreadyRevoked, ERC721NonexistentToken.
    """
    from collegium.settlement import NOBODY, MoneySite, revoke_licence

    receipt = revoke_licence(chain, MoneySite(contract, NOBODY, NOBODY, NOBODY), holder, number)
    return {"number": number, "transaction": receipt.transaction.hex(), "block": receipt.block, "gas": receipt.gas}


def _standing(chain: Chain, site: Any, request: LicenceRequest, block: int) -> int | None:
    """Return the number of a licence that this holder has for these data and terms, and has not revoked."""
    from collegium.settlement import contract, read_licence

    licences = contract("Licences")
    answer = chain.call(request.owner, site.licences, licences.call("balanceOf", request.owner))
    (count,) = licences.result("balanceOf", answer)
    if count == 0:
        return None
    for log in chain.logs(site.licences, licences.topic("Issued"), block):
        issued = licences.event("Issued", log)
        holder = bytes.fromhex(issued["holder"].removeprefix("0x"))
        if (holder, issued["dataRoot"], issued["terms"]) != (request.owner, request.data_root, request.terms):
            continue
        if not read_licence(chain, site, issued["id"]).revoked_at_s:
            return int(issued["id"])
    return None


# ------------------------------------------------------------------------------------------------ commands


def register(data: typer.Typer) -> None:
    """Add the commands to `collegium data`."""
    data.command("issue")(data_issue)
    data.command("revoke")(data_revoke)


def data_issue(
    licence: Annotated[Path, typer.Argument(metavar="LICENCE", help="A licence.json of `data register`.")],
    key: KeyOption,
    url: UrlOption,
    jurisdiction: Annotated[
        str, typer.Option("--jurisdiction", metavar="XX", help="Country whose law the text names, ISO 3166-1.")
    ],
    contract: Annotated[
        str | None, typer.Option("--contract", metavar="ADDRESS", help="Where licences are; left out, one is created.")
    ] = None,
    royalty: Annotated[
        int,
        typer.Option("--royalty", min=0, max=WHOLE, help="The least royalty to earlier versions, in basis points."),
    ] = 0,
    curator: Annotated[
        list[str] | None, typer.Option("--curator", metavar="ADDRESS=POINTS", help="Who shares in what it earns.")
    ] = None,
    site: Annotated[str, typer.Option("--site", help="What experiments call these data.")] = "SITE",
    block: Annotated[int, typer.Option("--block", min=0, help="Look from this block on for the same licence.")] = 0,
    json: JsonOption = False,
) -> None:
    """Issue the licence that a signed request asks for, and print what an experiment must say of it.

    The licence never leaves its account, and only that account can take the consent back.

    \b
    Example:
      collegium data issue public/licence.json --key hospital.keys --url http://127.0.0.1:8545 --jurisdiction DE
    """
    with exit_codes(), _chain_failures():
        from collegium.crypto import load_keys
        from collegium.node import decode_licence
        from collegium.settlement import JsonRpcChain

        request = decode_licence(_read(licence))
        grant = Grant(
            None if contract is None else address_in("--contract", contract),
            _country(jurisdiction),
            royalty,
            _curators(curator or ()),
            block,
        )
        facts = issue(JsonRpcChain(url), load_keys(key).account, request, grant, int(time.time()))
        if json:
            print_json(facts)
            return
        print_facts([("licence", f"{facts['number']} of 0x{facts['contract']} on chain {facts['chain_id']}")])
        for line in _section(facts, site):
            typer.echo(line)


def data_revoke(
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="The licence's number.")],
    key: KeyOption,
    url: UrlOption,
    contract: Annotated[str, typer.Option("--contract", metavar="ADDRESS", help="Where licences are.")],
    json: JsonOption = False,
) -> None:
    """Take the consent of a licence back, for good: runs that name it leave its data out from the next round on.

    Models that were made before keep what they are made of; `collegium lineage RUN --erasure NUMBER` lists them.

    \b
    Example:
      collegium data revoke 1 --contract 0x5fbdb2315678afecb367f032d93f642f64180aa3 --key hospital.keys --url http://127.0.0.1:8545
    """
    with exit_codes(), _chain_failures():
        from collegium.crypto import load_keys
        from collegium.settlement import JsonRpcChain

        facts = revoke(JsonRpcChain(url), load_keys(key).account, address_in("--contract", contract), number)
        if json:
            print_json(facts)
        else:
            print_facts([("revoked", f"licence {number}, for good"), ("transaction", f"0x{facts['transaction']}")])


@contextmanager
def _chain_failures() -> Iterator[None]:
    """Let a node that does not answer be the world's failure, not the caller's."""
    from collegium.node import WorldError
    from collegium.settlement import ChainAnswerError, ChainUnreachableError, TransactionNotMinedError

    try:
        yield
    except (ChainUnreachableError, ChainAnswerError, TransactionNotMinedError) as error:
        raise WorldError(str(error)) from error


def _section(facts: dict[str, Any], site: str) -> list[str]:
    """Return what an experiment's file says of a licence."""
    import json

    return [
        "[licences]",
        f"chain_id = {facts['chain_id']}",
        f'contract = "0x{facts["contract"]}"',
        f"[licences.sites.{json.dumps(site)}]",
        f"number = {facts['number']}",
        f'holder = "0x{facts["holder"]}"',
        f'data_root = "{facts["data_root"]}"',
    ]


def _country(text: str) -> str:
    if len(text) != 2 or not (text.isascii() and text.isalpha() and text.isupper()):
        raise UsageError(f"--jurisdiction {text!r}: expected two capital letters, such as DE")
    return text


def _curators(texts: Sequence[str]) -> tuple[CuratorShare, ...]:
    from collegium.settlement import CuratorShare

    shares = []
    for text in texts:
        address, _, points = text.partition("=")
        if not (points.isascii() and points.isdecimal() and len(points) <= 5 and 1 <= int(points) <= WHOLE):
            raise UsageError(f"--curator {text!r}: expected ADDRESS=POINTS with 1 to {WHOLE} basis points")
        shares.append(CuratorShare(address_in("--curator", address), int(points)))
    return tuple(shares)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LICENCE_BYTES_MAX)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path}: {reason}, expected a licence.json", path=path) from error
