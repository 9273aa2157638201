// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title SHA-256's compression function (FIPS 180-4, 6.2.2): what the precompile has inside and does not offer.
/// @notice With it a contract can check a stretch of a long message, from one chaining value to the next.
library Sha256 {
    uint256 internal constant BLOCK_BYTES = 64;

    /// @dev 5.3.3: the chaining value before the first block.
    bytes32 internal constant START = 0x6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19;

    uint256 private constant MASK = 0xffffffff;

    /// @dev Room for the message schedule, and behind it for the constants: 64 words each.
    uint256 private constant SCHEDULE_BYTES = 0x800;

    /// @notice The chaining value after whole blocks of `data`, from byte `start` on, beginning with `state`.
    function compress(bytes32 state, bytes memory data, uint256 start) internal pure returns (bytes32) {
        uint256 w = _constants();
        for (; start < data.length; start += BLOCK_BYTES) {
            _schedule(data, start, w);
            state = bytes32(_rounds(uint256(state), w));
        }
        return state;
    }

    /// @dev 6.2.2, step 1, to memory at `w`. A word twice beside itself makes a rotation one shift.
    function _schedule(bytes memory data, uint256 start, uint256 w) private pure {
        assembly ("memory-safe") {
            let source := add(add(data, 0x20), start)
            for { let t := 0 } lt(t, 16) { t := add(t, 1) } {
                mstore(add(w, shl(5, t)), shr(224, mload(add(source, shl(2, t)))))
            }
            let end := add(w, SCHEDULE_BYTES)
            for { let at_ := add(w, 0x200) } lt(at_, end) { at_ := add(at_, 0x20) } {
                let x := mload(sub(at_, 0x1e0))
                let y := mload(sub(at_, 0x40))
                let xx := mul(x, 0x100000001)
                let yy := mul(y, 0x100000001)
                let small := and(xor(xor(shr(7, xx), shr(18, xx)), shr(3, x)), MASK)
                small := add(small, and(xor(xor(shr(17, yy), shr(19, yy)), shr(10, y)), MASK))
                mstore(at_, and(add(small, add(mload(sub(at_, 0x200)), mload(sub(at_, 0xe0)))), MASK))
            }
        }
    }

    /// @dev 6.2.2, steps 2 to 4, for the schedule at `w`.
    function _rounds(uint256 chain, uint256 w) private pure returns (uint256 next) {
        assembly ("memory-safe") {
            let a := shr(224, chain)
            let b := and(shr(192, chain), MASK)
            let c := and(shr(160, chain), MASK)
            let d := and(shr(128, chain), MASK)
            let e := and(shr(96, chain), MASK)
            let f := and(shr(64, chain), MASK)
            let g := and(shr(32, chain), MASK)
            let h := and(chain, MASK)
            for { let end := add(w, SCHEDULE_BYTES) } lt(w, end) { w := add(w, 0x20) } {
                let twice := mul(e, 0x100000001)
                h := add(h, and(xor(xor(shr(6, twice), shr(11, twice)), shr(25, twice)), MASK))
                h := add(h, add(xor(g, and(e, xor(f, g))), add(mload(w), mload(add(w, SCHEDULE_BYTES)))))
                twice := mul(a, 0x100000001)
                twice := and(xor(xor(shr(2, twice), shr(13, twice)), shr(22, twice)), MASK)
                twice := add(add(twice, h), or(and(a, b), and(c, or(a, b))))
                let last := add(d, h)
                h := g
                g := f
                f := e
                e := and(last, MASK)
                d := c
                c := b
                b := a
                a := and(twice, MASK)
            }
            // each of the eight sums modulo 2^32, side by side
            next := shl(224, add(a, shr(224, chain)))
            next := or(next, shl(192, and(add(b, shr(192, chain)), MASK)))
            next := or(next, shl(160, and(add(c, shr(160, chain)), MASK)))
            next := or(next, shl(128, and(add(d, shr(128, chain)), MASK)))
            next := or(next, shl(96, and(add(e, shr(96, chain)), MASK)))
            next := or(next, shl(64, and(add(f, shr(64, chain)), MASK)))
            next := or(next, shl(32, and(add(g, shr(32, chain)), MASK)))
            next := or(next, and(add(h, chain), MASK))
        }
    }

    /// @dev Room in memory for a schedule, followed by 4.2.2's constants, one a word.
    function _constants() private pure returns (uint256 w) {
        uint256[128] memory room;
        uint256[8] memory packed = [
            uint256(0x428a2f9871374491b5c0fbcfe9b5dba53956c25b59f111f1923f82a4ab1c5ed5),
            0xd807aa9812835b01243185be550c7dc372be5d7480deb1fe9bdc06a7c19bf174,
            0xe49b69c1efbe47860fc19dc6240ca1cc2de92c6f4a7484aa5cb0a9dc76f988da,
            0x983e5152a831c66db00327c8bf597fc7c6e00bf3d5a7914706ca635114292967,
            0x27b70a852e1b21384d2c6dfc53380d13650a7354766a0abb81c2c92e92722c85,
            0xa2bfe8a1a81a664bc24b8b70c76c51a3d192e819d6990624f40e3585106aa070,
            0x19a4c1161e376c082748774c34b0bcb5391c0cb34ed8aa4a5b9cca4f682e6ff3,
            0x748f82ee78a5636f84c878148cc7020890befffaa4506cebbef9a3f7c67178f2
        ];
        assembly ("memory-safe") {
            w := room
            let target := add(w, SCHEDULE_BYTES)
            for { let t := 0 } lt(t, 64) { t := add(t, 1) } {
                let word := mload(add(packed, and(shl(2, t), 0xe0)))
                mstore(add(target, shl(5, t)), and(shr(sub(224, shl(5, and(t, 7))), word), MASK))
            }
        }
    }
}
