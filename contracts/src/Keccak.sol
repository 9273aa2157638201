// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The permutation keccak-f[1600] (FIPS 202, 3.3): what the EVM's hash has inside and does not offer.
library Keccak {
    /// @dev 3.2.5: the round constants, 8 bytes each.
    bytes private constant ROUND_CONSTANTS =
        hex"00000000000000010000000000008082800000000000808a8000000080008000"
        hex"000000000000808b000000008000000180000000800080818000000000008009"
        hex"000000000000008a00000000000000880000000080008009000000008000000a"
        hex"000000008000808b800000000000008b80000000000080898000000000008003"
        hex"80000000000080028000000000000080000000000000800a800000008000000a"
        hex"8000000080008081800000000000808000000000800000018000000080008008";

    /// @notice Permute the state in place; lane (x, y) is number x + 5 y, each below 2^64.
    /// @dev 3.2.2 and 3.2.3 together walk the one cycle that their map of lanes has, from lane 1 on: entry i says where
    /// the lane goes, and how far it turns.
    function permute(uint256[25] memory lanes) internal pure {
        bytes memory constants = ROUND_CONSTANTS;
        assembly ("memory-safe") {
            function turned(lane, by) -> result {
                result := and(or(shl(by, lane), shr(sub(64, by), lane)), 0xffffffffffffffff)
            }
            function column(first) -> parity {
                parity := xor(mload(first), mload(add(first, 0xa0)))
                parity := xor(parity, mload(add(first, 0x140)))
                parity := xor(parity, xor(mload(add(first, 0x1e0)), mload(add(first, 0x280))))
            }
            function mix(first, with) {
                for { let end := add(first, 0x320) } lt(first, end) { first := add(first, 0xa0) } {
                    mstore(first, xor(mload(first), with))
                }
            }
            let round := add(constants, 0x20)
            for { let end := add(round, 0xc0) } lt(round, end) { round := add(round, 8) } {
                // 3.2.1: each lane with the parities of two columns
                {
                    let c0 := column(lanes)
                    let c1 := column(add(lanes, 0x20))
                    let c2 := column(add(lanes, 0x40))
                    let c3 := column(add(lanes, 0x60))
                    let c4 := column(add(lanes, 0x80))
                    mix(lanes, xor(c4, turned(c1, 1)))
                    mix(add(lanes, 0x20), xor(c0, turned(c2, 1)))
                    mix(add(lanes, 0x40), xor(c1, turned(c3, 1)))
                    mix(add(lanes, 0x60), xor(c2, turned(c4, 1)))
                    mix(add(lanes, 0x80), xor(c3, turned(c0, 1)))
                }
                {
                    let places := 0x0a070b1112030510081518040f17130d0c02140e160906010000000000000000
                    let turns := 0x0103060a0f151c242d37020e1b293808192b3e12273d142c0000000000000000
                    let lane := mload(add(lanes, 0x20))
                    for { let i := 0 } lt(i, 24) { i := add(i, 1) } {
                        let place := add(lanes, shl(5, byte(i, places)))
                        let held := mload(place)
                        mstore(place, turned(lane, byte(i, turns)))
                        lane := held
                    }
                }
                // 3.2.4, by rows
                for { let row := lanes } lt(row, add(lanes, 0x320)) { row := add(row, 0xa0) } {
                    let r0 := mload(row)
                    let r1 := mload(add(row, 0x20))
                    let r2 := mload(add(row, 0x40))
                    let r3 := mload(add(row, 0x60))
                    let r4 := mload(add(row, 0x80))
                    // (not r) and s = (r or s) xor r
                    mstore(row, xor(r0, xor(or(r1, r2), r1)))
                    mstore(add(row, 0x20), xor(r1, xor(or(r2, r3), r2)))
                    mstore(add(row, 0x40), xor(r2, xor(or(r3, r4), r3)))
                    mstore(add(row, 0x60), xor(r3, xor(or(r4, r0), r4)))
                    mstore(add(row, 0x80), xor(r4, xor(or(r0, r1), r0)))
                }
                mstore(lanes, xor(mload(lanes), shr(192, mload(round))))
            }
        }
    }
}
