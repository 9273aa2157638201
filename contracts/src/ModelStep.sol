// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";

import {Frames} from "./Frames.sol";
import {IStep} from "./IStep.sol";
import {Sha256} from "./Sha256.sol";
import {Trace} from "./Trace.sol";

/// @title The step from a round's opened total to the next model, in the integers of the task's training rule.
/// @notice Its trace has three messages: the total and the model state before, read, and the model state after, made.
/// Each leaf of the last is 64 parameters (one move, rounded and clipped each) and SHA-256 over them; the very last
/// leaf's chaining value must be the header's digest of the model. Round 0 has another rule and is not covered.
contract ModelStep is IStep {
    using Frames for bytes;

    /// @notice The rule: a parameter moves by round_half_up(numerator total / (denominator weight)), clipped.
    /// @dev An array of entries, parameters in the order of layers; those before `hidden` lie under `hiddenLimit`.
    struct Rule {
        uint64 parameters;
        uint64 statistics; // entries of 8 bytes before the parameters of a model state
        uint64 hidden;
        uint64 hiddenLimit;
        uint64 outputLimit;
        uint64 numerator;
        uint64 denominator;
        bool descends; // the total is a gradient: the model moves against it
    }

    /// @dev What a dispute is about: digests of the messages.
    struct Facts {
        bytes32 total;
        bytes32 before;
        bytes32 afterwards;
    }

    /// @dev A leaf in question: where it is and what is known of the trace.
    struct Place {
        Facts facts;
        bytes32 root;
        uint8 levels;
        uint256 index;
    }

    error NothingToDispute(bytes outcome);
    error FirstRound();
    error WrongWitness(uint256 leaves, uint256 expected);

    bytes private constant HEADER = "collegium/v1/header";
    bytes private constant TOTAL = "collegium/v1/total";
    bytes32 private constant OPENED = keccak256("opened");
    uint256 private constant TOTAL_ENTRY = 8;
    uint256 private constant PARAMETER = 4;
    uint256 private constant PREVIOUS_FIELD = 4;
    uint256 private constant OUTCOME_FIELD = 6;
    uint256 private constant TOTAL_FIELD = 8;
    uint256 private constant MODEL_FIELD = 9;
    uint256 private constant SECTION_BITS = 2;

    /// @notice The task's rule, for everybody to compare with the task.
    Rule public rule;
    /// @notice Height of every trace of this rule.
    uint8 public immutable levels;

    /// @dev Lengths of the messages.
    uint256 private immutable _totalBytes;
    uint256 private immutable _stateBytes;

    constructor(Rule memory rule_) {
        rule = rule_;
        _totalBytes = TOTAL.length + TOTAL_ENTRY * (uint256(rule_.parameters) + 1);
        _stateBytes = TOTAL_ENTRY * uint256(rule_.statistics) + PARAMETER * uint256(rule_.parameters);
        uint256 leaves = Math.max(Trace.stretches(_totalBytes), Trace.stretches(_stateBytes));
        uint256 bits = SECTION_BITS + Math.log2(leaves, Math.Rounding.Ceil);
        levels = uint8((bits + Trace.MOVE_LEVELS - 1) / Trace.MOVE_LEVELS * Trace.MOVE_LEVELS);
    }

    /// @inheritdoc IStep
    /// @dev The opening is the fields of the header and of the header before it. A round that was not opened must leave
    /// the model as it was: if it does not, no game is needed.
    function begin(bytes32 header, bytes calldata opening) external view returns (bytes memory facts, uint8) {
        uint256 headerEnd = uint256(bytes32(opening[:32]));
        bytes calldata fields = opening[32:headerEnd];
        bytes calldata previous = opening[headerEnd:];
        fields.check(header, HEADER);
        if (Frames.little(bytes8(fields.field(2))) == 0) revert FirstRound();
        previous.check(fields.word(PREVIOUS_FIELD), HEADER);
        Facts memory found = Facts(fields.word(TOTAL_FIELD), previous.word(MODEL_FIELD), fields.word(MODEL_FIELD));
        bytes calldata outcome = fields.field(OUTCOME_FIELD);
        if (keccak256(outcome) == OPENED) return (abi.encode(found), levels);
        if (found.afterwards == found.before) revert NothingToDispute(outcome);
        return (abi.encode(found), 0);
    }

    /// @inheritdoc IStep
    /// @dev Sections by the two highest bits of a position: 0 the total, 1 the state before, each with its last stretch
    /// first; 2 the state after, its first stretch first. The witness is an array of `Trace.Leaf`.
    function refutes(
        bytes calldata facts,
        bytes32 root,
        uint8 height,
        uint64 position,
        bytes calldata leaf,
        bytes calldata witness
    ) external view returns (bool) {
        uint256 section = position >> (height - SECTION_BITS);
        Place memory place = Place(abi.decode(facts, (Facts)), root, height, position & (_offset(height, 1) - 1));
        uint256 length = section == 0 ? _totalBytes : _stateBytes;
        uint256 count = section == 3 ? 0 : Trace.stretches(length);
        if (place.index >= count) return leaf.length != 0;
        if (leaf.length == 0) return true;
        Trace.Leaf[] memory leaves = abi.decode(witness, (Trace.Leaf[]));
        if (section == 2) return _refutesMade(place, leaf, leaves);

        bytes32 next = section == 0 ? place.facts.total : place.facts.before;
        _require(leaves, place.index == 0 ? 0 : 1);
        if (place.index != 0) next = Trace.stateOf(Trace.open(root, height, position - 1, leaves[0]));
        return Trace.breaks(leaf, length, count - 1 - place.index, next);
    }

    /// @dev Whether the leaf is not the next stretch of the state after. Witness: the leaf before it, where there is
    /// one, that of the state before, those of the total under its entries, and those under the total's weight.
    function _refutesMade(Place memory place, bytes memory leaf, Trace.Leaf[] memory leaves) private view returns (bool) {
        uint256 used = place.index == 0 ? 0 : 1;
        bytes32 state = Sha256.START;
        if (used == 1) state = Trace.stateOf(_at(place, 2, place.index - 1, leaves, 0));
        bytes memory before = _at(place, 1, Trace.stretches(_stateBytes) - 1 - place.index, leaves, used++);

        (uint256 first, uint256 end) = _parametersIn(place.index);
        bytes memory entries;
        if (end > first) {
            entries = _entries(place, first, end - 1, leaves, used);
            used += _spread(first, end - 1);
        }
        bytes memory weight = _entries(place, rule.parameters, rule.parameters, leaves, used);
        _require(leaves, used + _spread(rule.parameters, rule.parameters));
        int256 rows = _entry(weight, 0);
        if (rows < 1) return true; // such a total is not opened

        bytes memory expected = _moved(place.index, before, entries, uint256(rows));
        state = Sha256.compress(state, expected, Trace.STATE_BYTES);
        assembly ("memory-safe") {
            mstore(add(expected, 0x20), state)
        }
        if (place.index == Trace.stretches(_stateBytes) - 1 && state != place.facts.afterwards) return true;
        return keccak256(expected) != keccak256(leaf);
    }

    /// @dev A leaf `0 || stretch` of the state after: what no parameter touches is as before.
    function _moved(uint256 index, bytes memory before, bytes memory entries, uint256 rows)
        private
        view
        returns (bytes memory made)
    {
        made = bytes.concat(before);
        Rule memory by = rule;
        (uint256 first, uint256 end) = _parametersIn(index);
        uint256 offset = Trace.STATE_BYTES;
        if (end > first) offset += _parameterAt(first) - index * Trace.STRETCH_BYTES;
        for (uint256 number = first; number < end; ++number) {
            uint256 limit = number < by.hidden ? by.hiddenLimit : by.outputLimit;
            int256 total = _entry(entries, number - first);
            _write(made, offset, _move(by, _parameter(before, offset), total, rows, int256(limit)));
            offset += PARAMETER;
        }
    }

    /// @dev A parameter as 4 bytes, little endian, two's complement.
    function _write(bytes memory made, uint256 offset, int256 parameter) private pure {
        uint256 bits = _swap32(uint32(uint256(parameter)));
        assembly ("memory-safe") {
            let place := add(add(made, 0x20), offset)
            mstore(place, or(shl(224, bits), shr(32, shl(32, mload(place)))))
        }
    }

    /// @dev One parameter's step: the multiply, the division rounded half up, both clips.
    function _move(Rule memory by, int256 old, int256 total, uint256 rows, int256 limit) private pure returns (int256) {
        int256 divisor = int256(uint256(by.denominator) * rows);
        int256 numerator = 2 * int256(uint256(by.numerator)) * total + divisor;
        divisor *= 2;
        int256 step = numerator / divisor;
        if (numerator < 0 && numerator % divisor != 0) --step; // towards minus infinity
        if (by.descends) step = -step;
        step = _clip(step, 2 * limit);
        return _clip(old + step, limit);
    }

    function _clip(int256 value, int256 limit) private pure returns (int256) {
        return SignedMath.max(-limit, SignedMath.min(limit, value));
    }

    /// @dev The entries `first` to `last` of the total, 8 bytes each, from as many leaves as they spread over.
    function _entries(Place memory place, uint256 first, uint256 last, Trace.Leaf[] memory leaves, uint256 used)
        private
        view
        returns (bytes memory entries)
    {
        uint256 start = TOTAL.length + first * TOTAL_ENTRY;
        uint256 end = TOTAL.length + (last + 1) * TOTAL_ENTRY;
        entries = new bytes(end - start);
        for (uint256 offset = start; offset < end;) {
            uint256 stretch = offset / Trace.STRETCH_BYTES;
            uint256 count = Math.min(end, (stretch + 1) * Trace.STRETCH_BYTES) - offset;
            bytes memory leaf = _at(place, 0, Trace.stretches(_totalBytes) - 1 - stretch, leaves, used++);
            uint256 source = Trace.STATE_BYTES + offset % Trace.STRETCH_BYTES;
            if (leaf.length < source + count) revert WrongWitness(leaf.length, source + count);
            assembly ("memory-safe") {
                mcopy(add(add(entries, 0x20), sub(offset, start)), add(add(leaf, 0x20), source), count)
            }
            offset += count;
        }
    }

    /// @dev Over how many leaves of the total the entries `first` to `last` spread.
    function _spread(uint256 first, uint256 last) private pure returns (uint256) {
        uint256 start = TOTAL.length + first * TOTAL_ENTRY;
        uint256 end = TOTAL.length + (last + 1) * TOTAL_ENTRY - 1;
        return end / Trace.STRETCH_BYTES - start / Trace.STRETCH_BYTES + 1;
    }

    /// @dev The parameters whose four bytes lie in stretch `index` of a state: a stretch's bounds are multiples of 4.
    function _parametersIn(uint256 index) private view returns (uint256 first, uint256 end) {
        uint256 start = TOTAL_ENTRY * uint256(rule.statistics);
        uint256 low = Math.max(index * Trace.STRETCH_BYTES, start);
        uint256 high = Math.min((index + 1) * Trace.STRETCH_BYTES, _stateBytes);
        if (high <= low) return (0, 0);
        return ((low - start) / PARAMETER, (high - start) / PARAMETER);
    }

    function _parameterAt(uint256 number) private view returns (uint256) {
        return TOTAL_ENTRY * uint256(rule.statistics) + PARAMETER * number;
    }

    function _at(Place memory place, uint256 section, uint256 index, Trace.Leaf[] memory leaves, uint256 number)
        private
        pure
        returns (bytes memory)
    {
        if (number >= leaves.length) revert WrongWitness(leaves.length, number + 1);
        return Trace.open(place.root, place.levels, uint64(_offset(place.levels, section) + index), leaves[number]);
    }

    function _require(Trace.Leaf[] memory leaves, uint256 expected) private pure {
        if (leaves.length != expected) revert WrongWitness(leaves.length, expected);
    }

    function _offset(uint8 height, uint256 section) private pure returns (uint256) {
        return section << (height - SECTION_BITS);
    }

    function _entry(bytes memory entries, uint256 index) private pure returns (int256) {
        bytes8 data;
        assembly ("memory-safe") {
            data := mload(add(add(entries, 0x20), mul(index, 8)))
        }
        return int64(Frames.little(data));
    }

    function _parameter(bytes memory leaf, uint256 offset) private pure returns (int256) {
        bytes4 data;
        assembly ("memory-safe") {
            data := mload(add(add(leaf, 0x20), offset))
        }
        return int32(_swap32(uint32(data)));
    }

    function _swap32(uint32 word) private pure returns (uint32) {
        word = ((word & 0xff00ff00) >> 8) | ((word & 0x00ff00ff) << 8);
        return (word >> 16) | (word << 16);
    }
}
