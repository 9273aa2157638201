// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title BLS signatures with keys in G2 and signatures in G1, over the EIP-2537 precompiles.
/// @notice A point is a struct of big-endian words, so that `abi.encode` of it is its EIP-2537 encoding: every
/// coordinate takes 64 bytes, of which the first 16 are zero. The neutral element is all zero. Outside the contracts a
/// point is *compact*: coordinates of 48 bytes, x || y in G1 and x.c0 || x.c1 || y.c0 || y.c1 in G2.
/// @dev A precompile given malformed input takes all gas it was offered. Each call therefore offers a fixed amount,
/// two to three times the price of EIP-2537 and EIP-7883, so that bad bytes cost their sender a bounded sum. The
/// addition precompiles do not check the subgroup; the pairing does. Hence a key may be added only after a pairing has
/// accepted it, which is what the proof of possession is for.
library BLS12381 {
    struct G1 {
        bytes32 xHigh;
        bytes32 xLow;
        bytes32 yHigh;
        bytes32 yLow;
    }

    struct G2 {
        bytes32 x0High;
        bytes32 x0Low;
        bytes32 x1High;
        bytes32 x1Low;
        bytes32 y0High;
        bytes32 y0Low;
        bytes32 y1High;
        bytes32 y1Low;
    }

    /// @notice A precompile refused its input, or the chain lacks it.
    error PrecompileFailed(address precompile);

    /// @notice A compact point has another length than its group demands.
    error InvalidPointLength(uint256 length, uint256 expected);

    /// @notice A key, a signature or a sum of keys is the neutral element, for which anything verifies.
    error InfinityPoint();

    uint256 internal constant G1_BYTES = 96;
    uint256 internal constant G2_BYTES = 192;

    address private constant MODEXP = address(0x05);
    address private constant G1ADD = address(0x0b);
    address private constant G2ADD = address(0x0d);
    address private constant PAIRING_CHECK = address(0x0f);
    address private constant MAP_FP_TO_G1 = address(0x10);

    uint256 private constant MODEXP_GAS_MAX = 1_500; //            500 by EIP-7883
    uint256 private constant G1ADD_GAS_MAX = 1_000; //             375
    uint256 private constant G2ADD_GAS_MAX = 1_500; //             600
    uint256 private constant PAIRING_CHECK_GAS_MAX = 250_000; // 102,900 for two pairs
    uint256 private constant MAP_FP_TO_G1_GAS_MAX = 14_000; //   5,500

    /// @dev The base field's modulus p, in two words.
    uint256 private constant P_HIGH = 0x1a0111ea397fe69a4b1ba7b6434bacd7;
    uint256 private constant P_LOW = 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab;

    /// @dev (p - 1) / 2: a y above it is the greater of y and -y.
    uint256 private constant HALF_HIGH = 0x0d0088f51cbff34d258dd3db21a5d66b;
    uint256 private constant HALF_LOW = 0xb23ba5c279c2895fb39869507b587b120f55ffff58a9ffffdcff7fffffffd555;

    /// @dev Domain separation tags of draft-irtf-cfrg-bls-signature, section 4.2.3. Both have 43 bytes.
    bytes private constant SIGNATURE_TAG = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
    bytes private constant POSSESSION_TAG = "BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
    uint8 private constant TAG_BYTES = 43;

    /// @notice Whether `signature` is `key`'s signature of `digest`.
    /// @dev Reverts with InfinityPoint on a neutral key or signature, PrecompileFailed on a point outside its group.
    function isSignature(G2 memory key, bytes32 digest, G1 memory signature) internal view returns (bool) {
        return _verify(key, hashToG1(digest, SIGNATURE_TAG), signature);
    }

    /// @notice Whether `proof` shows that its maker knows the secret of `key`; the digest must bind the key.
    /// @dev Reverts as `isSignature` does.
    function isPossession(G2 memory key, bytes32 digest, G1 memory proof) internal view returns (bool) {
        return _verify(key, hashToG1(digest, POSSESSION_TAG), proof);
    }

    /// @notice Add `a` to `sum`, in place. Neither is checked to lie in the subgroup.
    function accumulate(G2 memory sum, G2 memory a) internal view {
        bytes memory output = _call(G2ADD, G2ADD_GAS_MAX, abi.encode(sum, a), 256);
        assembly ("memory-safe") {
            mcopy(sum, add(output, 0x20), 256)
        }
    }

    /// @notice The point with the other y; the neutral element is its own.
    function negate(G2 memory a) internal pure returns (G2 memory) {
        (bytes32 y0High, bytes32 y0Low) = _negate(a.y0High, a.y0Low);
        (bytes32 y1High, bytes32 y1Low) = _negate(a.y1High, a.y1Low);
        return G2(a.x0High, a.x0Low, a.x1High, a.x1Low, y0High, y0Low, y1High, y1Low);
    }

    /// @notice The 96 bytes by which a key is known outside the chain (draft-irtf-cfrg-pairing-friendly-curves-11,
    /// appendix C): x.c1 || x.c0, with bit 7 of the first byte set and bit 5 saying which of the two y it is.
    /// @dev Meaningful for a point of the curve other than the neutral element.
    function compress(G2 memory a) internal pure returns (bytes memory) {
        (bytes32 high, bytes32 low) = a.y1High | a.y1Low == 0 ? (a.y0High, a.y0Low) : (a.y1High, a.y1Low);
        bool greater = uint256(high) > HALF_HIGH || (uint256(high) == HALF_HIGH && uint256(low) > HALF_LOW);
        uint128 flags = uint128(greater ? 0xa0 : 0x80) << 120;
        return abi.encodePacked(uint128(uint256(a.x1High)) | flags, a.x1Low, uint128(uint256(a.x0High)), a.x0Low);
    }

    function isInfinity(G1 memory a) internal pure returns (bool) {
        return a.xHigh | a.xLow | a.yHigh | a.yLow == 0;
    }

    function isInfinity(G2 memory a) internal pure returns (bool) {
        return
            a.x0High | a.x0Low | a.x1High | a.x1Low | a.y0High | a.y0Low | a.y1High | a.y1Low == 0;
    }

    /// @notice The point of G1 in 96 compact bytes. Whether it is on the curve is left to the precompiles.
    function g1(bytes memory compact) internal pure returns (G1 memory a) {
        if (compact.length != G1_BYTES) revert InvalidPointLength(compact.length, G1_BYTES);
        (a.xHigh, a.xLow) = _coordinate(compact, 0);
        (a.yHigh, a.yLow) = _coordinate(compact, 48);
    }

    /// @notice The point of G2 in 192 compact bytes. Whether it is on the curve is left to the precompiles.
    function g2(bytes memory compact) internal pure returns (G2 memory a) {
        if (compact.length != G2_BYTES) revert InvalidPointLength(compact.length, G2_BYTES);
        (a.x0High, a.x0Low) = _coordinate(compact, 0);
        (a.x1High, a.x1Low) = _coordinate(compact, 48);
        (a.y0High, a.y0Low) = _coordinate(compact, 96);
        (a.y1High, a.y1Low) = _coordinate(compact, 144);
    }

    /// @notice RFC 9380's BLS12381G1_XMD:SHA-256_SSWU_RO_ of a 32-byte message under a tag of 43 bytes.
    function hashToG1(bytes32 message, bytes memory tag) internal view returns (G1 memory) {
        // expand_message_xmd (section 5.3.1) to 128 bytes; the first block starts with 64 zero bytes
        bytes32 b0 = sha256(abi.encodePacked(bytes32(0), bytes32(0), message, uint16(128), uint8(0), tag, TAG_BYTES));
        bytes32 b1 = sha256(abi.encodePacked(b0, uint8(1), tag, TAG_BYTES));
        bytes32 b2 = sha256(abi.encodePacked(b0 ^ b1, uint8(2), tag, TAG_BYTES));
        bytes32 b3 = sha256(abi.encodePacked(b0 ^ b2, uint8(3), tag, TAG_BYTES));
        bytes32 b4 = sha256(abi.encodePacked(b0 ^ b3, uint8(4), tag, TAG_BYTES));
        G1 memory q0 = _mapToG1(b1, b2);
        G1 memory q1 = _mapToG1(b3, b4);
        return abi.decode(_call(G1ADD, G1ADD_GAS_MAX, abi.encode(q0, q1), 128), (G1));
    }

    /// @dev e(H, key) * e(signature, -generator) == 1. The precompile checks that all four are in their subgroups.
    function _verify(G2 memory key, G1 memory hashed, G1 memory signature) private view returns (bool) {
        if (isInfinity(key) || isInfinity(signature)) revert InfinityPoint();
        bytes memory pairs = abi.encode(hashed, key, signature, _generatorNegated());
        return abi.decode(_call(PAIRING_CHECK, PAIRING_CHECK_GAS_MAX, pairs, 32), (bool));
    }

    /// @dev The 64-byte integer high || low, reduced modulo p (as a power with exponent 1) and mapped to the curve.
    function _mapToG1(bytes32 high, bytes32 low) private view returns (G1 memory) {
        bytes memory power =
            abi.encodePacked(uint256(64), uint256(1), uint256(64), high, low, uint8(1), P_HIGH, P_LOW);
        bytes memory element = _call(MODEXP, MODEXP_GAS_MAX, power, 64);
        return abi.decode(_call(MAP_FP_TO_G1, MAP_FP_TO_G1_GAS_MAX, element, 128), (G1));
    }

    function _call(address precompile, uint256 gasMax, bytes memory input, uint256 length)
        private
        view
        returns (bytes memory output)
    {
        bool done;
        (done, output) = precompile.staticcall{gas: gasMax}(input);
        if (!done || output.length != length) revert PrecompileFailed(precompile);
    }

    /// @dev p - y, and 0 for 0. For a y >= p the result is meaningless, and the next precompile refuses it.
    function _negate(bytes32 high, bytes32 low) private pure returns (bytes32, bytes32) {
        if (high | low == 0) return (high, low);
        unchecked {
            uint256 borrow = uint256(low) > P_LOW ? 1 : 0;
            return (bytes32(P_HIGH - uint256(high) - borrow), bytes32(P_LOW - uint256(low)));
        }
    }

    /// @dev The 48 bytes at `offset`, whose presence the caller has checked, as 16 zero bytes, 16 and 32.
    function _coordinate(bytes memory compact, uint256 offset) private pure returns (bytes32 high, bytes32 low) {
        assembly ("memory-safe") {
            let start := add(add(compact, 0x20), offset)
            high := shr(128, mload(start))
            low := mload(add(start, 16))
        }
    }

    /// @dev Minus the standard generator of G2 (draft-irtf-cfrg-pairing-friendly-curves-11, section 4.2.1).
    function _generatorNegated() private pure returns (G2 memory) {
        return G2(
            bytes32(uint256(0x024aa2b2f08f0a91260805272dc51051)),
            0xc6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8,
            bytes32(uint256(0x13e02b6052719f607dacd3a088274f65)),
            0x596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e,
            bytes32(uint256(0x0d1b3cc2c7027888be51d9ef691d77bc)),
            0xb679afda66c73f17f9ee3837a55024f78c71363275a75d75d86bab79f74782aa,
            bytes32(uint256(0x13fa4d4a0ad8b1ce186ed5061789213d)),
            0x993923066dddaf1040bc3ff59f825c78df74f2d75467e25e0f55f8a00fa030ed
        );
    }
}
