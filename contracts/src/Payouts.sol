// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Fields} from "./Fields.sol";
import {IVerdicts} from "./IVerdicts.sol";
import {Licences} from "./Licences.sol";
import {Purse} from "./Purse.sol";
import {Settlement} from "./Settlement.sol";
import {Tasks} from "./Tasks.sol";

/// @title What paying for rounds and paying for versions have in common: terms, licences, and who shares in a payment.
abstract contract Payouts is Purse {
    error LicenceOfAnother(uint256 licence, address holder);

    uint256 internal constant WHOLE = 10_000; // basis points
    uint256 private constant COURT_GAS_MAX = 100_000;

    Tasks public immutable tasks;
    Licences public immutable licences;
    uint256 public immutable challengeSeconds;

    constructor(Tasks tasks_, IERC20 token_) Purse(token_) {
        tasks = tasks_;
        licences = tasks_.licences();
        challengeSeconds = tasks_.challengeSeconds();
    }

    /// @dev What every certified statement here starts with: for which task, of which epoch's set, and for which
    /// contract of which chain and which of its tasks. So it serves once, here.
    function _statementHead(string memory use, Settlement settlement) internal view returns (bytes memory) {
        bytes memory place = abi.encodePacked(block.chainid, address(this), address(settlement));
        return abi.encodePacked(
            Fields.tag(use), Fields.word(settlement.task()), Fields.number(settlement.epoch()), Fields.data(place)
        );
    }

    /// @dev A leaf of a list: who is due how much, and on which licence; 0 for none.
    function _leaf(string memory use, address account, uint256 amount, uint256 licence)
        internal
        pure
        returns (bytes32)
    {
        return sha256(
            abi.encodePacked(
                Fields.tag(use), Fields.account(account), Fields.word(bytes32(amount)), Fields.word(bytes32(licence))
            )
        );
    }

    /// @dev A court that fails, or that is none, has found nothing.
    function _isRefuted(IVerdicts court, bytes32 statement) internal view returns (bool) {
        (bool answered, bytes32 refuter) = _asked(address(court), abi.encodeCall(IVerdicts.refuter, (statement)));
        return answered && refuter != 0;
    }

    /// @dev What a court answers, if it answers with one word. Any task names its own, so it has only so much gas, and no
    /// more of what it says is taken than that word: else the sender would pay for its length.
    function _asked(address court, bytes memory question) internal view returns (bool answered, bytes32 word) {
        uint256 gasMax = COURT_GAS_MAX;
        assembly ("memory-safe") {
            answered := staticcall(gasMax, court, add(question, 0x20), mload(question), 0, 0x20)
            answered := and(answered, eq(returndatasize(), 0x20))
            word := mload(0)
        }
    }

    /// @dev Credit an account, less what the curators of its licence have in it: rounded down, so that the holder has the
    /// rest and the parts add up.
    function _payOut(address account, uint256 licence, uint256 amount) internal {
        uint256 rest = amount;
        if (licence != 0) {
            address holder = licences.ownerOf(licence);
            if (holder != account) revert LicenceOfAnother(licence, holder);
            Licences.Share[] memory shares = licences.shares(licence);
            for (uint256 index = 0; index < shares.length; ++index) {
                uint256 part = amount * shares[index].part / WHOLE;
                rest -= part;
                _credit(shares[index].curator, part);
            }
        }
        _credit(account, rest);
    }
}
