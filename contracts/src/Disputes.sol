// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Court} from "./Court.sol";
import {IStep} from "./IStep.sol";
import {Settlement} from "./Settlement.sol";
import {Trace} from "./Trace.sol";

/// @title Whether a header under a checkpoint is what its public work gives: a game down to one step.
/// @notice Anyone may dispute a header. Whoever stands up for it claims the root of a trace, each another one, and plays
/// a game of its own against the challenger. A header falls if its challenger beats everyone who stood up in time; a
/// dispute fails with the first game that its challenger loses. Every move for a root opens what the root commits to,
/// so anyone may make it, and nobody can spoil it. Nobody has powers here.
contract Disputes is Court {
    enum State {
        None,
        Open,
        Upheld,
        Refuted
    }

    /// @dev Whose turn: the challenger's in Pick and Refute, the defence's in Reveal, Show and Answer, nobody's else.
    enum Phase {
        None,
        Offered,
        Pick,
        Reveal,
        Show,
        Refute,
        Answer,
        Over
    }

    /// @notice Times in seconds and coin in wei.
    /// @dev A bond is bondBase + bondPerLevel x levels, exactly. Of a lost one half burns.
    struct Terms {
        uint32 windowSeconds; // from `start` on, in which a checkpoint's headers can be disputed
        uint32 joinSeconds; // from `open` on, in which roots can be claimed
        uint32 clockSeconds; // that each side has in a game, all its moves together
        uint32 extensionSeconds; // that a side has at least when its turn begins
        uint16 asksMax; // leaves that a challenger may ask for in a game
        uint96 bondBase;
        uint96 bondPerLevel;
        uint96 askFee;
    }

    struct Dispute {
        bytes32 header;
        bytes32 checkpoint;
        bytes32 facts; // keccak of what the step verifier said
        IStep step;
        uint48 openedAt;
        uint32 live; // games that go on
        State state;
        address challenger; // 0 in an offer that nobody accepted
        uint8 levels;
        bool offer; // no verdict follows
    }

    struct Game {
        bytes32 root;
        bytes32 node; // the claim in question: below the root, at `level`, `position` from the left
        address defender;
        uint64 position;
        uint8 level;
        Phase phase;
        Phase resumed; // after an answer
        uint64 dispute;
        uint48 since; // when this turn began
        uint32 challengerClock;
        uint32 defenderClock;
        uint16 asks;
        uint64 asked;
    }

    event Opened(
        uint256 indexed id, bytes32 indexed header, address indexed challenger, address step, uint8 levels, bytes facts
    );
    event Claimed(
        uint256 indexed game, uint256 indexed id, address indexed defender, bytes32 root, bytes32[16] children
    );
    event Picked(uint256 indexed game, uint8 level, uint64 position, bytes32 node);
    event Revealed(uint256 indexed game, bytes32[16] children);
    event Shown(uint256 indexed game, uint64 position, bytes leaf);
    event Asked(uint256 indexed game, uint64 position);
    event Answered(uint256 indexed game, uint64 position, bytes leaf, address by);
    event Settled(uint256 indexed id, bytes32 indexed header, State state);

    error UnknownStep(uint256 step);
    error AlreadyRefuted(bytes32 header);
    error RootAlreadyClaimed(bytes32 root);
    error WrongPhase(uint256 game, Phase phase);
    error WrongNode(bytes32 found, bytes32 expected);
    error NoSuchChild(uint256 child);
    error NoSuchLeaf(uint64 position);
    error TooManyAsks(uint256 game);
    error WrongFacts();
    error NotRefuted(uint256 game);

    uint8 private constant LEVELS_MAX = 60;

    /// @notice Who showed that a header is wrong; 0 if nobody did.
    mapping(bytes32 header => address) public override refuter;

    Terms private _terms;
    IStep[] private _steps;
    Dispute[] private _disputes;
    Game[] private _games;
    mapping(bytes32 claim => bool) private _claimed;
    mapping(bytes32 dispute => uint256 number) private _running; // from 1

    /// @param steps_ one verifier a kind of work; its number is its place.
    constructor(Settlement settlement_, IStep[] memory steps_, Terms memory terms_) Court(settlement_) {
        _requireTerms(terms_.joinSeconds, terms_.clockSeconds, terms_.extensionSeconds, terms_.bondBase);
        _steps = steps_;
        _terms = terms_;
    }

    /// @notice Dispute one kind of work of a header.
    /// @param step the kind's number.
    /// @param siblings as in `Settlement.includesHeader`.
    /// @param opening as the step verifier defines. If it shows the header to be wrong, the header has fallen.
    function open(
        uint256 step,
        Settlement.Checkpoint calldata accepted,
        uint256 round,
        bytes32 header,
        bytes32[] calldata siblings,
        bytes calldata opening
    ) external payable returns (uint256 id) {
        uint8 levels;
        (id, levels) = _open(step, accepted, round, header, siblings, opening);
        _disputes[id].challenger = msg.sender;
        bytes32 key = keccak256(abi.encode(header, step, msg.sender));
        uint256 running = _running[key];
        if (running != 0 && _disputes[running - 1].state == State.Open) revert AlreadyDisputed(running - 1);
        _running[key] = id + 1;
        _take(bond(levels));
        ++windowOf[_disputes[id].checkpoint].open;
        if (levels == 0) _conclude(id, State.Refuted);
    }

    /// @notice Stand up for a disputed header with the root of a trace, given as the nodes four levels below it.
    function defend(uint256 id, bytes32[16] calldata children) external payable returns (uint256 game) {
        Dispute storage dispute = _dispute(id);
        if (dispute.state != State.Open || dispute.offer) revert NotOpen(id);
        if (block.timestamp >= dispute.openedAt + _terms.joinSeconds) revert JoinOver(id);
        _take(bond(dispute.levels));
        game = _claim(id, children, Phase.Pick);
    }

    /// @notice Offer a claim about a trace to whoever checks it: right, or wrong on purpose so that checking pays.
    /// @dev No verdict about the header follows from it.
    function offer(
        uint256 step,
        Settlement.Checkpoint calldata accepted,
        uint256 round,
        bytes32 header,
        bytes32[] calldata siblings,
        bytes calldata opening,
        bytes32[16] calldata children
    ) external payable returns (uint256 id, uint256 game) {
        uint8 levels;
        (id, levels) = _open(step, accepted, round, header, siblings, opening);
        if (levels == 0) revert UnknownStep(step);
        _take(bond(levels));
        _disputes[id].offer = true;
        game = _claim(id, children, Phase.Offered);
    }

    /// @notice Dispute an offered claim, with the same bond.
    function accept(uint256 game) external payable {
        Game storage played = _game(game);
        if (played.phase != Phase.Offered) revert WrongPhase(game, played.phase);
        Dispute storage dispute = _disputes[played.dispute];
        _take(bond(dispute.levels));
        dispute.challenger = msg.sender;
        played.phase = Phase.Pick;
        played.since = uint48(block.timestamp);
        emit Accepted(game, played.dispute, msg.sender);
    }

    /// @notice Take back the bond of a claim: of an offer that nobody accepted in time, or of a dispute that another
    /// claim has ended.
    function reclaim(uint256 game) external {
        Game storage played = _game(game);
        Dispute storage dispute = _disputes[played.dispute];
        if (played.defender != msg.sender) revert NotTheDefender(game);
        if (played.phase == Phase.Over) revert WrongPhase(game, played.phase);
        if (played.phase == Phase.Offered) {
            if (block.timestamp < dispute.openedAt + _terms.windowSeconds) revert StillJoining(played.dispute);
        } else if (dispute.state != State.Upheld) {
            revert GamesGoOn(played.dispute, dispute.live);
        }
        if (played.phase == Phase.Answer) _credit(dispute.challenger, _terms.askFee);
        played.phase = Phase.Over;
        _credit(msg.sender, bond(dispute.levels));
    }

    /// @notice Say which of the sixteen nodes below the one in question is the first wrong one.
    function pick(uint256 game, bytes32[16] calldata children, uint256 child) external {
        Game storage played = _move(game, Phase.Pick, _terms.extensionSeconds);
        _requireNode(Trace.above(children), played.node);
        if (child >= Trace.CHILDREN) revert NoSuchChild(child);
        bytes32 node = children[child];
        uint64 position = uint64(played.position * Trace.CHILDREN + child);
        uint8 level = uint8(played.level - Trace.MOVE_LEVELS);
        played.node = node;
        played.position = position;
        played.level = level;
        if (level != 0) played.phase = Phase.Reveal;
        else played.phase = node == 0 ? Phase.Refute : Phase.Show; // there is nothing to show where nothing is
        emit Picked(game, level, position, node);
    }

    /// @notice Show the sixteen nodes below the one in question. Anyone may.
    function reveal(uint256 game, bytes32[16] calldata children) external {
        Game storage played = _move(game, Phase.Reveal, _terms.extensionSeconds);
        _requireNode(Trace.above(children), played.node);
        played.phase = Phase.Pick;
        emit Revealed(game, children);
    }

    /// @notice Show the bytes of the leaf in question. Anyone may.
    function show(uint256 game, bytes calldata leaf) external {
        Game storage played = _move(game, Phase.Show, _terms.extensionSeconds);
        _requireNode(Trace.leafDigest(leaf), played.node);
        played.phase = Phase.Refute;
        emit Shown(game, played.position, leaf);
    }

    /// @notice Have the leaf in question executed: it is not what the leaves before it give.
    /// @param facts those of the event `Opened`.
    /// @param leaf the bytes that were shown.
    /// @param witness as the step verifier defines.
    function refute(uint256 game, bytes calldata facts, bytes calldata leaf, bytes calldata witness) external {
        Game storage played = _move(game, Phase.Refute, _terms.extensionSeconds);
        Dispute storage dispute = _disputes[played.dispute];
        if (keccak256(facts) != dispute.facts) revert WrongFacts();
        _requireNode(Trace.leafDigest(leaf), played.node);
        bool wrong = dispute.step.refutes(facts, played.root, dispute.levels, played.position, leaf, witness);
        if (!wrong) revert NotRefuted(game);
        _finish(game, true, true);
    }

    /// @notice Demand a leaf of the trace that the challenger cannot compute, as something it follows from is withheld.
    function ask(uint256 game, uint64 position) external payable {
        Phase phase = _game(game).phase;
        if (phase != Phase.Pick && phase != Phase.Refute) revert WrongPhase(game, phase);
        Game storage played = _move(game, phase, 0); // else asking on and on would win time
        if (position >> _disputes[played.dispute].levels != 0) revert NoSuchLeaf(position);
        if (played.asks >= _terms.asksMax) revert TooManyAsks(game);
        ++played.asks;
        played.asked = position;
        played.resumed = phase;
        played.phase = Phase.Answer;
        _take(_terms.askFee);
        emit Asked(game, position);
    }

    /// @notice Show a leaf that was asked for, with its path; the fee is the sender's. Anyone may.
    function answer(uint256 game, Trace.Leaf calldata leaf) external {
        Game storage played = _move(game, Phase.Answer, _terms.extensionSeconds);
        uint64 position = played.asked;
        Trace.open(played.root, _disputes[played.dispute].levels, position, leaf);
        played.phase = played.resumed;
        _credit(msg.sender, _terms.askFee);
        emit Answered(game, position, leaf.data, msg.sender);
    }

    /// @notice End a game whose side to move has let its clock run out.
    function timeOut(uint256 game) external {
        Game storage played = _game(game);
        Phase phase = played.phase;
        if (!_goesOn(phase) || _disputes[played.dispute].state != State.Open) revert WrongPhase(game, phase);
        bool challengers = _isChallengers(phase);
        _requireRunOut(game, played.since, challengers ? played.challengerClock : played.defenderClock);
        if (phase == Phase.Answer) _credit(_disputes[played.dispute].challenger, _terms.askFee);
        _finish(game, !challengers, false);
    }

    /// @notice Conclude that a header is wrong: nobody stands up for it any more.
    function settle(uint256 id) external {
        Dispute storage dispute = _dispute(id);
        if (dispute.state != State.Open || dispute.offer) revert NotOpen(id);
        if (block.timestamp < dispute.openedAt + _terms.joinSeconds) revert StillJoining(id);
        if (dispute.live != 0) revert GamesGoOn(id, dispute.live);
        _conclude(id, State.Refuted);
    }

    /// @notice What a side puts up for a trace of so many levels.
    function bond(uint8 levels) public view returns (uint256) {
        return uint256(_terms.bondBase) + uint256(_terms.bondPerLevel) * levels;
    }

    /// @notice What all games are played under.
    function terms() external view returns (Terms memory) {
        return _terms;
    }

    /// @notice The step verifiers, by number.
    function steps() external view returns (IStep[] memory) {
        return _steps;
    }

    /// @notice A dispute by its number.
    function disputeAt(uint256 id) external view returns (Dispute memory) {
        return _dispute(id);
    }

    /// @notice A game by its number.
    function gameAt(uint256 number) external view returns (Game memory) {
        return _game(number);
    }

    function _open(
        uint256 step,
        Settlement.Checkpoint calldata accepted,
        uint256 round,
        bytes32 header,
        bytes32[] calldata siblings,
        bytes calldata opening
    ) private returns (uint256 id, uint8 levels) {
        if (step >= _steps.length) revert UnknownStep(step);
        if (!settlement.includesHeader(accepted, round, header, siblings)) revert HeaderNotIncluded(header);
        bytes32 checkpoint = _disputable(accepted);
        // a header that fell under one checkpoint may stand under another one, which must not become final either
        if (refuter[header] != address(0) && windowOf[checkpoint].refuted) revert AlreadyRefuted(header);
        bytes memory facts;
        (facts, levels) = _steps[step].begin(header, opening);
        if (levels > LEVELS_MAX || levels % Trace.MOVE_LEVELS != 0) revert UnknownStep(step);

        id = _disputes.length;
        Dispute storage opened = _disputes.push();
        opened.header = header;
        opened.checkpoint = checkpoint;
        opened.facts = keccak256(facts);
        opened.step = _steps[step];
        opened.openedAt = uint48(block.timestamp);
        opened.state = State.Open;
        opened.levels = levels;
        emit Opened(id, header, msg.sender, address(_steps[step]), levels, facts);
    }

    function _claim(uint256 id, bytes32[16] calldata children, Phase phase) private returns (uint256 number) {
        bytes32 root = Trace.above(children);
        bytes32 claim = keccak256(abi.encode(id, root));
        if (_claimed[claim]) revert RootAlreadyClaimed(root);
        _claimed[claim] = true;
        ++_disputes[id].live;
        number = _games.length;
        Game storage claimed = _games.push();
        claimed.root = root;
        claimed.node = root;
        claimed.defender = msg.sender;
        claimed.level = _disputes[id].levels;
        claimed.phase = phase;
        claimed.dispute = uint64(id);
        claimed.since = uint48(block.timestamp);
        claimed.challengerClock = _terms.clockSeconds;
        claimed.defenderClock = _terms.clockSeconds;
        emit Claimed(number, id, msg.sender, root, children);
    }

    /// @dev Account for the time that the side to move has used, and begin the next turn.
    /// @param least that it will have when its own next turn begins.
    function _move(uint256 number, Phase phase, uint256 least) private returns (Game storage played) {
        played = _game(number);
        Dispute storage about = _disputes[played.dispute];
        if (played.phase != phase || about.state != State.Open) revert WrongPhase(number, played.phase);
        bool challengers = _isChallengers(phase);
        if (challengers && msg.sender != about.challenger) revert NotTheChallenger(number);
        if (challengers) played.challengerClock = _left(number, played.since, played.challengerClock, least);
        else played.defenderClock = _left(number, played.since, played.defenderClock, least);
        played.since = uint48(block.timestamp);
    }

    function _finish(uint256 number, bool challengerWon, bool inTime) private {
        Game storage played = _games[number];
        uint256 id = played.dispute;
        Dispute storage about = _disputes[id];
        uint256 stake = bond(about.levels);
        uint256 burn = stake / BURN_DIVISOR;
        played.phase = Phase.Over;
        --about.live;
        emit GameOver(number, id, challengerWon, inTime);
        if (!challengerWon) {
            _credit(played.defender, 2 * stake - burn);
            _conclude(id, State.Upheld);
        } else if (about.offer) {
            _credit(about.challenger, 2 * stake - burn);
            _conclude(id, State.Refuted);
        } else {
            _credit(about.challenger, stake - burn);
        }
        _give(BURNED, burn);
    }

    function _conclude(uint256 id, State state) private {
        Dispute storage about = _disputes[id];
        about.state = state;
        if (!about.offer) {
            Window storage window = windowOf[about.checkpoint];
            --window.open;
            if (state == State.Refuted) {
                window.refuted = true;
                if (refuter[about.header] == address(0)) refuter[about.header] = about.challenger;
                _credit(about.challenger, bond(about.levels));
            }
        }
        emit Settled(id, about.header, state);
    }

    function _requireNode(bytes32 found, bytes32 expected) private pure {
        if (found != expected) revert WrongNode(found, expected);
    }

    function _windowSeconds() internal view override returns (uint256) {
        return _terms.windowSeconds;
    }

    function _dispute(uint256 id) private view returns (Dispute storage) {
        if (id >= _disputes.length) revert NotOpen(id);
        return _disputes[id];
    }

    function _game(uint256 number) private view returns (Game storage) {
        if (number >= _games.length) revert WrongPhase(number, Phase.None);
        return _games[number];
    }

    function _isChallengers(Phase phase) private pure returns (bool) {
        return phase == Phase.Pick || phase == Phase.Refute;
    }

    function _goesOn(Phase phase) private pure returns (bool) {
        return phase != Phase.None && phase != Phase.Offered && phase != Phase.Over;
    }
}
