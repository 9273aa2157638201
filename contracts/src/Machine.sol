// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Fields} from "./Fields.sol";
import {Keccak} from "./Keccak.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Sha256} from "./Sha256.sol";

/// @title One instruction of the machine on which public work is disputed, executed from a witness.
/// @notice A machine is a program, fixed by the root of a tree over its instructions, and 2^28 words of 64 bits, fixed
/// by the root of a tree over leaves of 32 of them. It starts with a statement's digest and zeros and ends by accepting
/// or rejecting it. A witness shows what a step touches; a step has one result whatever witness shows it.
contract Machine {
    /// @notice All there is of a machine beside its program. A status other than 0 (running) stays; 1 has accepted, 2
    /// rejected.
    struct State {
        uint64 status;
        uint64 pc;
        uint64 fp;
        bytes32 root;
    }

    /// @notice A leaf of memory as it is when the step comes to it, and the way up from there.
    struct Access {
        bytes32[8] leaf; // four words each
        bytes32[23] siblings;
    }

    /// @notice What a step needs to see; docs/spec/machine.md says which accesses in what order. What a step does not
    /// need is empty.
    struct Witness {
        bytes instruction; // 32 bytes, or empty where the program has none
        bytes32[] path;
        Access[] accesses;
        bytes preimage; // chaining value and block
    }

    /// @dev By number. Those that have an operand C take it as it stands where IMMEDIATE is added.
    enum Op {
        Reject,
        Accept,
        Set,
        Move,
        Add,
        Sub,
        Mul,
        MulHigh,
        Div,
        Rem,
        And,
        Or,
        Xor,
        ShiftLeft,
        ShiftRight,
        ShiftRightSigned,
        Less,
        SignedLess,
        Equal,
        FieldAdd,
        FieldSub,
        FieldMul,
        ByteSwap,
        Load,
        Store,
        Jump,
        JumpIfZero,
        JumpUnlessZero,
        Call,
        Return,
        Sha256Block,
        Preimage,
        KeccakBlock
    }

    /// @dev A step under way: the memory as it is now, and how many accesses were used.
    struct Run {
        bytes32 root;
        uint256 used;
    }

    /// @dev A leaf of memory that was opened, with its place.
    struct Leaf {
        uint256 access;
        uint256 place;
        bytes32[8] pieces;
    }

    struct Instruction {
        Op op;
        bool immediate;
        uint64 a;
        uint64 b;
        uint64 c;
    }

    error WrongInstruction(uint64 pc, bytes32 root, bytes32 expected);
    error WrongMemory(uint256 leaf, bytes32 root, bytes32 expected);
    error WrongPreimage(bytes32 found, bytes32 expected);
    error WrongWitness(uint256 given, uint256 expected);

    uint64 private constant RUNNING = 0;
    uint64 private constant ACCEPTED = 1;
    uint64 private constant REJECTED = 2;

    /// @dev Where the stack of the program begins.
    uint64 private constant FIRST_FRAME = 1024;
    uint256 private constant MEMORY_WORDS = 1 << 28;
    uint256 private constant MEMORY_LEVELS = 23;
    uint256 private constant LEAF_WORDS = 32;
    uint256 private constant PIECE_WORDS = 4;
    uint256 private constant PROGRAM_LEVELS = 16;
    uint256 private constant INSTRUCTION_BYTES = 32;
    uint256 private constant PREIMAGE_BYTES = 96;
    uint256 private constant KECCAK_LANES = 25;
    uint256 private constant IMMEDIATE = 64;
    /// @dev Of the field of the polynomials: 2^64 - 2^32 + 1.
    uint256 private constant PRIME = 0xffffffff00000001;

    bytes private constant NODE_TAG = "collegium/v1/node\x00";
    bytes private constant STATE_TAG = "collegium/v1/machine\x00";
    bytes private constant MEMORY_TAG = "collegium/v1/memory\x00";
    bytes private constant INSTRUCTION_TAG = "collegium/v1/instruction\x00";

    /// @dev Which instructions have an address as operand A, B, C: bit n is instruction n.
    uint256 private constant HAS_C = (1 << 22) - (1 << 4) | 1 << 23 | 1 << 24;
    uint256 private constant HAS_B = (1 << 25) - (1 << 3) | 1 << 26 | 1 << 27 | 1 << 28;
    uint256 private constant HAS_A = (1 << 25) - (1 << 2) | 1 << 30 | 1 << 31 | 1 << 32;

    /// @notice The state with which every run about a statement begins.
    function start(bytes32 statement) external pure returns (State memory) {
        bytes32[8] memory pieces;
        bytes32 zeros = _leafDigest(pieces);
        pieces[0] = statement;
        bytes32 node = _leafDigest(pieces);
        for (uint256 level = 0; level < MEMORY_LEVELS; ++level) {
            node = MerkleTree.parent(node, zeros);
            zeros = MerkleTree.parent(zeros, zeros);
        }
        return State(RUNNING, 0, FIRST_FRAME, node);
    }

    /// @notice What stands for a state wherever one is named.
    function digest(State calldata state) external pure returns (bytes32) {
        return sha256(abi.encodePacked(STATE_TAG, state.status, state.pc, state.fp, state.root));
    }

    /// @notice The chaining value of SHA-256 after whole blocks, beginning with `value`.
    function compress(bytes32 value, bytes calldata blocks) external pure returns (bytes32) {
        if (blocks.length % Sha256.BLOCK_BYTES != 0) revert WrongWitness(blocks.length, Sha256.BLOCK_BYTES);
        return Sha256.compress(value, blocks, 0);
    }

    /// @notice The state after one step.
    /// @param program root of the tree over its instructions.
    function step(bytes32 program, State calldata before, Witness calldata witness)
        external
        pure
        returns (State memory next)
    {
        next = before;
        Run memory run = Run(before.root, 0);
        bool shows = false;
        if (before.status != RUNNING) {
            _require(witness.instruction.length, 0);
            _require(witness.path.length, 0);
        } else {
            bool trapped;
            (trapped, shows) = _execute(program, next, run, witness);
            if (trapped) next = State(REJECTED, before.pc, before.fp, before.root);
            else next.root = run.root;
        }
        _require(witness.accesses.length, run.used);
        _require(witness.preimage.length, shows ? PREIMAGE_BYTES : 0);
    }

    function _execute(bytes32 program, State memory state, Run memory run, Witness calldata witness)
        private
        pure
        returns (bool trapped, bool shows)
    {
        (bool found, Instruction memory code) = _fetch(program, state.pc, witness);
        if (!found || !_addresses(state.fp, code)) return (true, false);
        Op op = code.op;
        uint64 fp = state.fp;
        ++state.pc; // below 2^16 + 1
        if (op == Op.Reject || op == Op.Accept) {
            state.status = op == Op.Accept ? ACCEPTED : REJECTED;
        } else if (op == Op.Jump) {
            state.pc = code.a;
        } else if (op == Op.JumpIfZero || op == Op.JumpUnlessZero) {
            if ((_read(run, witness, _at(fp, code.b)) == 0) == (op == Op.JumpIfZero)) state.pc = code.a;
        } else if (op == Op.Call) {
            _write(run, witness, _at(fp, code.b), state.pc);
            _write(run, witness, _at(fp, _next(code.b)), fp);
            state.pc = code.a;
            state.fp = _at(fp, code.b);
        } else if (op == Op.Return) {
            state.pc = _read(run, witness, fp);
            state.fp = _read(run, witness, _next(fp));
        } else if (op >= Op.Sha256Block) {
            return _transform(run, witness, op, _read(run, witness, _at(fp, code.a)));
        } else {
            return (_assign(run, witness, fp, code), false);
        }
    }

    /// @dev Instructions that give one word a value.
    function _assign(Run memory run, Witness calldata witness, uint64 fp, Instruction memory code)
        private
        pure
        returns (bool trapped)
    {
        Op op = code.op;
        uint64 target = _at(fp, code.a);
        if (op == Op.Set) {
            _write(run, witness, target, code.b);
            return false;
        }
        uint64 x = _read(run, witness, _at(fp, code.b));
        uint64 result;
        if (op == Op.Move) {
            result = x;
        } else if (op == Op.ByteSwap) {
            result = uint64(Fields.littleEndian(x));
        } else {
            uint64 y = code.immediate ? code.c : _read(run, witness, _at(fp, code.c));
            if (op == Op.Load) {
                if (_at(x, y) >= MEMORY_WORDS) return true;
                result = _read(run, witness, _at(x, y));
            } else if (op == Op.Store) {
                result = _read(run, witness, target);
                target = _at(x, y);
                if (target >= MEMORY_WORDS) return true;
            } else {
                if (y == 0 && (op == Op.Div || op == Op.Rem)) return true;
                result = _operate(op, x, y);
            }
        }
        _write(run, witness, target, result);
    }

    /// @dev An operation on two words.
    function _operate(Op op, uint64 x, uint64 y) private pure returns (uint64) {
        unchecked {
            if (op == Op.Add) return x + y;
            if (op == Op.Sub) return x - y;
            if (op == Op.Mul) return x * y;
            if (op == Op.MulHigh) return uint64((uint256(x) * y) >> 64);
            if (op == Op.Div) return x / y;
            if (op == Op.Rem) return x % y;
            if (op == Op.And) return x & y;
            if (op == Op.Or) return x | y;
            if (op == Op.Xor) return x ^ y;
            if (op == Op.ShiftLeft) return x << y;
            if (op == Op.ShiftRight) return x >> y;
            if (op == Op.ShiftRightSigned) return uint64(int64(x) >> y);
            if (op == Op.Less) return x < y ? 1 : 0;
            if (op == Op.SignedLess) return int64(x) < int64(y) ? 1 : 0;
            if (op == Op.Equal) return x == y ? 1 : 0;
            if (op == Op.FieldAdd) return uint64(addmod(x, y, PRIME));
            if (op == Op.FieldSub) return uint64(addmod(x, 2 * PRIME - y, PRIME));
            return uint64(mulmod(x, y, PRIME));
        }
    }

    /// @dev Instructions on a frame of sixteen or twenty-five words that begins a leaf of memory.
    function _transform(Run memory run, Witness calldata witness, Op op, uint64 frame)
        private
        pure
        returns (bool trapped, bool shows)
    {
        if (frame % LEAF_WORDS != 0 || frame >= MEMORY_WORDS) return (true, false);
        Leaf memory leaf = _open(run, witness, frame);
        bytes32[8] memory pieces = leaf.pieces;
        if (op == Op.KeccakBlock) {
            _permute(leaf);
        } else if (op == Op.Sha256Block) {
            pieces[3] = Sha256.compress(pieces[0], abi.encodePacked(pieces[1], pieces[2]), 0);
        } else {
            bytes calldata preimage = witness.preimage;
            _require(preimage.length, PREIMAGE_BYTES);
            bytes32 found = Sha256.compress(bytes32(preimage[:32]), preimage[32:], 0);
            if (found != pieces[3]) revert WrongPreimage(found, pieces[3]);
            pieces[0] = bytes32(preimage[:32]);
            pieces[1] = bytes32(preimage[32:64]);
            pieces[2] = bytes32(preimage[64:]);
        }
        _close(run, witness, leaf);
        return (false, op == Op.Preimage);
    }

    function _permute(Leaf memory leaf) private pure {
        uint256[25] memory lanes;
        for (uint256 index = 0; index < KECCAK_LANES; ++index) {
            lanes[index] = _word(leaf, index);
        }
        Keccak.permute(lanes);
        for (uint256 index = 0; index < KECCAK_LANES; ++index) {
            _setWord(leaf, index, lanes[index]);
        }
    }

    /// @dev The instruction at `pc`; not found where the program has none, or it is none.
    function _fetch(bytes32 program, uint64 pc, Witness calldata witness)
        private
        pure
        returns (bool found, Instruction memory code)
    {
        bool within = pc >> PROGRAM_LEVELS == 0;
        uint256 length = witness.instruction.length;
        _require(witness.path.length, within ? PROGRAM_LEVELS : 0);
        if (length != 0 || !within) _require(length, within ? INSTRUCTION_BYTES : 0);
        if (!within) return (false, code);
        bytes32 node = length == 0 ? bytes32(0) : sha256(bytes.concat(INSTRUCTION_TAG, witness.instruction));
        bytes32[] calldata path = witness.path;
        uint256 siblings;
        assembly ("memory-safe") {
            siblings := path.offset
        }
        node = _climb(node, pc, PROGRAM_LEVELS, siblings);
        if (node != program) revert WrongInstruction(pc, node, program);
        if (length == 0) return (false, code);

        uint256 bits = uint256(bytes32(witness.instruction));
        uint256 op = bits >> 192;
        if (op >= IMMEDIATE && op < 2 * IMMEDIATE && HAS_C >> (op - IMMEDIATE) & 1 == 1) {
            code.immediate = true;
            op -= IMMEDIATE;
        }
        if (op > uint256(Op.KeccakBlock)) return (false, code);
        (code.op, code.a, code.b, code.c) = (Op(op), uint64(bits >> 128), uint64(bits >> 64), uint64(bits));
        return (true, code);
    }

    /// @dev Whether all words that an instruction names are in memory.
    function _addresses(uint64 fp, Instruction memory code) private pure returns (bool) {
        uint256 op = uint256(code.op);
        if (HAS_A >> op & 1 == 1 && _at(fp, code.a) >= MEMORY_WORDS) return false;
        if (HAS_B >> op & 1 == 1 && _at(fp, code.b) >= MEMORY_WORDS) return false;
        if (HAS_C >> op & 1 == 1 && !code.immediate && _at(fp, code.c) >= MEMORY_WORDS) return false;
        if (code.op == Op.Call) return _at(fp, _next(code.b)) < MEMORY_WORDS;
        return code.op != Op.Return || (fp < MEMORY_WORDS && _next(fp) < MEMORY_WORDS);
    }

    function _at(uint64 base, uint64 offset) private pure returns (uint64) {
        unchecked {
            return base + offset;
        }
    }

    function _next(uint64 address_) private pure returns (uint64) {
        return _at(address_, 1);
    }

    function _read(Run memory run, Witness calldata witness, uint64 place) private pure returns (uint64) {
        return uint64(_word(_open(run, witness, place), place % LEAF_WORDS));
    }

    function _write(Run memory run, Witness calldata witness, uint64 place, uint64 value) private pure {
        Leaf memory leaf = _open(run, witness, place);
        _setWord(leaf, place % LEAF_WORDS, value);
        _close(run, witness, leaf);
    }

    /// @dev The next access, which must be to the leaf with this word of the memory as it is now.
    function _open(Run memory run, Witness calldata witness, uint64 place) private pure returns (Leaf memory leaf) {
        uint256 used = run.used++;
        if (used >= witness.accesses.length) revert WrongWitness(witness.accesses.length, run.used);
        leaf = Leaf(used, place / LEAF_WORDS, witness.accesses[used].leaf);
        bytes32 root = _above(witness, leaf);
        if (root != run.root) revert WrongMemory(leaf.place, root, run.root);
    }

    /// @dev The memory with a leaf that was opened as it has become.
    function _close(Run memory run, Witness calldata witness, Leaf memory leaf) private pure {
        run.root = _above(witness, leaf);
    }

    /// @dev The root above a leaf that was opened, as it is now.
    function _above(Witness calldata witness, Leaf memory leaf) private pure returns (bytes32) {
        bytes32[23] calldata path = witness.accesses[leaf.access].siblings;
        uint256 siblings;
        assembly ("memory-safe") {
            siblings := path
        }
        return _climb(_leafDigest(leaf.pieces), leaf.place, MEMORY_LEVELS, siblings);
    }

    /// @dev `MerkleTree.parent` again and again, with one room for what is hashed: a step does it 23 times an access.
    /// @param siblings where they begin in the call's data.
    function _climb(bytes32 node, uint256 place, uint256 levels, uint256 siblings) private pure returns (bytes32) {
        bytes memory hashed = bytes.concat(NODE_TAG, node, node);
        for (uint256 level = 0; level < levels; ++level) {
            assembly ("memory-safe") {
                let left := add(hashed, 0x32) // behind the tag's 18 bytes
                let turned := shl(5, and(shr(level, place), 1))
                mstore(add(left, turned), node)
                mstore(add(left, sub(0x20, turned)), calldataload(add(siblings, shl(5, level))))
            }
            node = sha256(hashed);
        }
        return node;
    }

    function _leafDigest(bytes32[8] memory pieces) private pure returns (bytes32) {
        return sha256(abi.encodePacked(MEMORY_TAG, pieces));
    }

    function _word(Leaf memory leaf, uint256 index) private pure returns (uint256) {
        return uint64(uint256(leaf.pieces[index / PIECE_WORDS]) >> _shift(index));
    }

    function _setWord(Leaf memory leaf, uint256 index, uint256 value) private pure {
        uint256 piece = uint256(leaf.pieces[index / PIECE_WORDS]) & ~(uint256(type(uint64).max) << _shift(index));
        leaf.pieces[index / PIECE_WORDS] = bytes32(piece | value << _shift(index));
    }

    function _shift(uint256 index) private pure returns (uint256) {
        return 64 * (PIECE_WORDS - 1 - index % PIECE_WORDS);
    }

    function _require(uint256 given, uint256 expected) private pure {
        if (given != expected) revert WrongWitness(given, expected);
    }
}
