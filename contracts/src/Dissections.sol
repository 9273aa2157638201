// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Court} from "./Court.sol";
import {Machine} from "./Machine.sol";
import {Settlement} from "./Settlement.sol";
import {Sha256} from "./Sha256.sol";

/// @title Whether a machine accepts a statement: a game that divides its run down to one instruction.
/// @notice Anyone may dispute a statement. Whoever stands up for it claims with what state the machine accepts it, and
/// plays a game of its own against the challenger: it shows fifteen states on the way, the challenger says which of the
/// sixteen parts it denies, and so on. The last part is one instruction, which the contract executes. A statement falls
/// if its challenger beats everyone who stood up in time; a dispute fails with the first game that its challenger
/// loses. A true statement has one run: so one claim, under one bond, stands up in any number of disputes about it, and
/// if it loses one game it is lost in all. Nobody has powers here.
contract Dissections is Court {
    enum State {
        None,
        Open,
        Upheld,
        Refuted
    }

    /// @dev Whose turn: the challenger's in Choose, the defence's in Divide, Prove and Answer, nobody's else.
    enum Phase {
        None,
        Choose,
        Divide,
        Prove,
        Answer,
        Over
    }

    enum Standing {
        None,
        Stands,
        Lost,
        Withdrawn
    }

    /// @notice Times in seconds and coin in wei. Of a lost bond half burns.
    struct Terms {
        uint32 windowSeconds; // from `start` on, in which a checkpoint's headers can be disputed
        uint32 joinSeconds; // from `open` on, in which claims can be made
        uint32 clockSeconds; // that each side has in a game, all its moves together
        uint32 extensionSeconds; // that a side has at least when its turn begins
        uint8 levels; // a run has 16^levels steps: who is right must have halted by then
        uint16 demandsMax; // that a challenger may make in a game
        uint96 bond;
        uint96 demandFee;
    }

    /// @notice What is disputed by one program.
    struct Kind {
        bytes32 program; // root of the tree over its instructions
        bytes head; // with which the preimage of every statement of this kind begins: frames of its tag and the task
        bool ofHeader; // statements are headers under a checkpoint
    }

    /// @notice Where a header is; nothing of it is looked at for other statements.
    struct Place {
        Settlement.Checkpoint accepted;
        uint256 round;
        bytes32[] siblings; // as in `Settlement.includesHeader`
    }

    /// @notice With what a machine is said to accept, and the states that lie a sixteenth of the run apart.
    struct Claim {
        uint64 pc;
        uint64 fp;
        bytes32 root;
        bytes32[15] states;
    }

    struct Dispute {
        bytes32 statement;
        bytes32 checkpoint; // 0 unless it is about a header
        bytes32 start; // state with which the run begins
        uint32 kind;
        uint48 openedAt;
        uint32 live; // games that go on
        State state;
        address challenger; // 0 in an offer that nobody accepted
        bool offer; // no verdict follows
        bool named; // its preimage was shown
    }

    /// @notice A claim, with which its owner stands up in any number of disputes about what the first of them is about.
    struct Defence {
        bytes32 end; // state that is claimed for the end of the run
        bytes32 first; // keccak of the states that came with the claim
        address defender;
        uint48 dispute; // for which it was made
        uint32 live; // games that go on
        Standing standing;
    }

    /// @dev At the top, `level` being the terms' levels, what is in question is the claim's: the first three say nothing.
    struct Game {
        bytes32 states; // keccak of the states in question
        bytes32 left; // agreed, at step `position`
        bytes32 right; // denied, 16^level steps later
        uint64 position;
        uint32 challengerClock;
        uint32 defenderClock;
        uint48 since; // when this turn began
        uint8 level;
        Phase phase;
        uint16 demands;
        uint8 blocks; // that are demanded
        uint64 dispute;
        uint64 defence;
    }

    event Opened(
        uint256 indexed id,
        bytes32 indexed statement,
        address indexed challenger,
        uint256 kind,
        bytes32 checkpoint,
        bool named
    );
    event Named(uint256 indexed id);
    event Claimed(uint256 indexed defence, uint256 indexed id, address indexed defender, Claim claim);
    event Joined(uint256 indexed game, uint256 indexed id, uint256 indexed defence);
    event Closed(uint256 indexed game, uint256 indexed id);
    event Reclaimed(uint256 indexed defence);
    event Divided(uint256 indexed game, uint8 level, uint64 position, bytes32[15] states);
    event Chosen(uint256 indexed game, uint8 level, uint64 position, bytes32 left, bytes32 right);
    event Demanded(uint256 indexed game, uint64 position, uint8 blocks);
    event Answered(uint256 indexed game, uint64 position, bytes preimage, bytes32 value, bytes blocks, address by);
    event Settled(uint256 indexed id, bytes32 indexed statement, State state);

    error EmptyHead(uint256 kind);
    error UnknownKind(uint256 kind);
    error WrongOpening(bytes32 statement);
    error AlreadyRefuted(bytes32 statement);
    error AlreadyNamed(uint256 id);
    error UnknownDefence(uint256 defence);
    error NotStanding(uint256 defence, Standing standing);
    error NotOffered(uint256 defence);
    error AboutAnother(uint256 defence, uint256 id);
    error AlreadyJoined(uint256 defence, uint256 id);
    error StillPlaying(uint256 defence, uint256 live);
    error Decided(uint256 game);
    error NotDecided(uint256 game);
    error WrongPhase(uint256 game, Phase phase);
    error WrongStates(uint256 game);
    error NoSuchPart(uint256 part);
    error NotAStep(uint256 game, uint8 level);
    error WrongBlocks(uint256 given, uint256 demanded);
    error WrongStretch(bytes32 found, bytes32 expected);
    error TooManyDemands(uint256 game);
    error WrongState(bytes32 found, bytes32 expected);

    /// @dev The status of a machine that has accepted.
    uint64 private constant ACCEPTED = 1;
    uint256 private constant PARTS = 16;
    uint256 private constant PART_BITS = 4;
    /// @dev 16^15 steps are below 2^64.
    uint8 private constant LEVELS_MAX = 15;
    /// @dev In one answer: 4096 bytes.
    uint8 private constant BLOCKS_MAX = 64;

    /// @notice Made here, so that whoever has seen this contract has seen it.
    Machine public immutable machine;

    /// @notice Who showed that a statement is false; 0 if nobody did.
    mapping(bytes32 statement => address) public override refuter;
    /// @notice How many disputes about a statement go on.
    mapping(bytes32 statement => uint256) public pending;

    Terms private _terms;
    Kind[] private _kinds;
    Dispute[] private _disputes;
    Defence[] private _defences;
    Game[] private _games;
    mapping(bytes32 dispute => uint256 number) private _running; // from 1
    mapping(uint256 defence => mapping(uint256 id => bool)) private _joined;

    /// @param kinds_ one program a kind of work; its number is its place.
    constructor(Settlement settlement_, Kind[] memory kinds_, Terms memory terms_) Court(settlement_) {
        _requireTerms(terms_.joinSeconds, terms_.clockSeconds, terms_.extensionSeconds, terms_.bond);
        if (terms_.levels == 0 || terms_.levels > LEVELS_MAX) revert TermsOutOfRange();
        // else withholding what is then shown would pay more than a lost claim is sure to cost
        if (uint256(terms_.demandsMax) * terms_.demandFee >= terms_.bond / BURN_DIVISOR) revert TermsOutOfRange();
        machine = new Machine();
        _terms = terms_;
        for (uint256 index = 0; index < kinds_.length; ++index) {
            if (kinds_[index].head.length == 0) revert EmptyHead(index);
            _kinds.push(kinds_[index]);
        }
    }

    /// @notice Dispute a statement.
    /// @param kind its number.
    /// @param opening the statement's preimage. A header's may be missing, as nobody may know it: then its checkpoint
    /// cannot become final if the header falls, but whoever signed that digest is not shown to have signed a header.
    function open(uint256 kind, bytes32 statement, bytes calldata opening, Place calldata place)
        external
        payable
        returns (uint256 id)
    {
        id = _open(kind, statement, opening, place);
        Dispute storage opened = _disputes[id];
        opened.challenger = msg.sender;
        bytes32 key = keccak256(abi.encode(kind, statement, msg.sender));
        uint256 running = _running[key];
        if (running != 0 && _disputes[running - 1].state == State.Open) revert AlreadyDisputed(running - 1);
        _running[key] = id + 1;
        _take(_terms.bond);
        ++pending[statement];
        if (_kinds[kind].ofHeader) ++windowOf[opened.checkpoint].open;
    }

    /// @notice Stand up for a disputed statement, under a bond. Several may, with the same claim too: each plays for itself.
    function defend(uint256 id, Claim calldata claim) external payable returns (uint256 defence, uint256 game) {
        _requireJoining(id);
        _take(_terms.bond);
        defence = _claim(id, claim);
        game = _play(id, defence);
    }

    /// @notice Stand up with a claim in another dispute about the same, under the bond that it has.
    function join(uint256 defence, uint256 id) external returns (uint256 game) {
        Defence storage joining = _standing(defence);
        if (joining.defender != msg.sender) revert NotTheDefender(defence);
        Dispute storage about = _requireJoining(id);
        Dispute storage made = _disputes[joining.dispute];
        if (made.offer || made.kind != about.kind || made.statement != about.statement) {
            revert AboutAnother(defence, id);
        }
        if (_joined[defence][id]) revert AlreadyJoined(defence, id);
        game = _play(id, defence);
    }

    /// @notice Offer a claim about a statement to whoever checks it: right, or wrong on purpose so that checking pays.
    /// @dev No verdict about the statement follows from it.
    function offer(
        uint256 kind,
        bytes32 statement,
        bytes calldata opening,
        Place calldata place,
        Claim calldata claim
    ) external payable returns (uint256 id, uint256 defence) {
        id = _open(kind, statement, opening, place);
        _take(_terms.bond);
        _disputes[id].offer = true;
        defence = _claim(id, claim);
    }

    /// @notice Dispute an offered claim, with the same bond.
    function accept(uint256 defence) external payable returns (uint256 game) {
        uint256 id = _standing(defence).dispute;
        Dispute storage offered = _disputes[id];
        if (!offered.offer || offered.challenger != address(0)) revert NotOffered(defence);
        _take(_terms.bond);
        offered.challenger = msg.sender;
        game = _play(id, defence);
        emit Accepted(game, id, msg.sender);
    }

    /// @notice Take back the bond of a claim that has no game left; of an offer that nobody accepted, when its time is over.
    function reclaim(uint256 defence) external {
        Defence storage standing = _standing(defence);
        if (standing.defender != msg.sender) revert NotTheDefender(defence);
        if (standing.live != 0) revert StillPlaying(defence, standing.live);
        Dispute storage made = _disputes[standing.dispute];
        bool waits = made.offer && made.challenger == address(0);
        if (waits && block.timestamp < made.openedAt + _terms.windowSeconds) revert StillJoining(standing.dispute);
        standing.standing = Standing.Withdrawn;
        emit Reclaimed(defence);
        _credit(msg.sender, _terms.bond);
    }

    /// @notice End a game that another one has decided: its claim was lost, or its challenger. Anyone may; nobody wins it.
    function close(uint256 game) external {
        Game storage played = _game(game);
        if (played.phase == Phase.Over) revert WrongPhase(game, played.phase);
        if (!_isDecided(played)) revert NotDecided(game);
        _end(played);
        emit Closed(game, played.dispute);
    }

    /// @notice Say which of the sixteen parts in question is the first whose end is wrong.
    /// @param states those that the defence showed.
    function choose(uint256 game, bytes32[15] calldata states, uint256 part) external {
        // one clock for all demands: see `demand`
        Game storage played = _move(game, Phase.Choose, _game(game).demands == 0 ? _terms.extensionSeconds : 0);
        _descend(game, played, states, part);
        played.phase = played.level == 0 ? Phase.Prove : Phase.Divide;
    }

    /// @notice Show the states a sixteenth of the part in question apart. Nothing binds them, so only its claimant may.
    function divide(uint256 game, bytes32[15] calldata states) external {
        if (_defences[_game(game).defence].defender != msg.sender) revert NotTheDefender(game);
        Game storage played = _move(game, Phase.Divide, _terms.extensionSeconds);
        played.states = keccak256(abi.encode(states));
        played.phase = Phase.Choose;
        emit Divided(game, played.level, played.position, states);
    }

    /// @notice Have the step in question executed: it leads from the agreed state to the denied one. Anyone may.
    function prove(uint256 game, Machine.State calldata before, Machine.Witness calldata witness) external {
        Game storage played = _move(game, Phase.Prove, _terms.extensionSeconds);
        _execute(played, before, witness);
        _finish(game, false, true);
    }

    /// @notice Choose a step that finds an unknown preimage, which the challenger must see to go on: the defence shows
    /// it, with the blocks before it in the message, and the game begins again with the claim's states.
    /// @dev This move and those after it bring the challenger no least time: demanding takes from its one clock.
    /// @param blocks to be shown, if the message has so many.
    function demand(uint256 game, bytes32[15] calldata states, uint256 part, uint8 blocks) external payable {
        Game storage played = _move(game, Phase.Choose, 0);
        if (played.level != 1) revert NotAStep(game, played.level);
        if (blocks == 0 || blocks > BLOCKS_MAX) revert WrongBlocks(blocks, BLOCKS_MAX);
        if (played.demands >= _terms.demandsMax) revert TooManyDemands(game);
        _take(_terms.demandFee);
        _descend(game, played, states, part);
        ++played.demands;
        played.blocks = blocks;
        played.phase = Phase.Answer;
        emit Demanded(game, played.position, blocks);
    }

    /// @notice Have the step in question executed, and show what was demanded; the fee is the sender's. Anyone may. If
    /// the step finds no preimage the challenger has lost.
    /// @param value the chaining value before the blocks.
    /// @param blocks of the message before the one that the step finds, as many as demanded or from its first one on.
    function answer(
        uint256 game,
        Machine.State calldata before,
        Machine.Witness calldata witness,
        bytes32 value,
        bytes calldata blocks
    ) external {
        Game storage played = _move(game, Phase.Answer, _terms.extensionSeconds);
        _execute(played, before, witness);
        played.phase = Phase.Choose; // the fee is no more the challenger's
        _credit(msg.sender, _terms.demandFee);
        if (witness.preimage.length == 0) {
            _finish(game, false, true);
            return;
        }
        _requireStretch(bytes32(witness.preimage[:32]), value, blocks, played.blocks - 1);
        emit Answered(game, played.position, witness.preimage, value, blocks, msg.sender);
        played.position = 0;
        played.level = _terms.levels;
    }

    /// @notice End a game whose side to move has let its clock run out.
    function timeOut(uint256 game) external {
        Game storage played = _game(game);
        _requireGoesOn(game, played);
        bool challengers = played.phase == Phase.Choose;
        _requireRunOut(game, played.since, challengers ? played.challengerClock : played.defenderClock);
        _finish(game, !challengers, false);
    }

    /// @notice Conclude that a statement is false: nobody stands up for it any more.
    function settle(uint256 id) external {
        Dispute storage dispute = _dispute(id);
        if (dispute.state != State.Open || dispute.offer) revert NotOpen(id);
        if (block.timestamp < dispute.openedAt + _terms.joinSeconds) revert StillJoining(id);
        if (dispute.live != 0) revert GamesGoOn(id, dispute.live);
        _conclude(id, State.Refuted);
    }

    /// @notice Show the preimage of a header that was disputed without it. Anyone may, at any time.
    function name(uint256 id, bytes calldata opening) external {
        Dispute storage about = _dispute(id);
        if (about.named) revert AlreadyNamed(id);
        if (!_requireOpening(_kinds[about.kind], about.statement, opening)) revert WrongOpening(about.statement);
        about.named = true;
        emit Named(id);
        if (about.state == State.Refuted && !about.offer) _convict(about);
    }

    /// @notice What all games are played under.
    function terms() external view returns (Terms memory) {
        return _terms;
    }

    /// @notice The kinds of work, by number.
    function kinds() external view returns (Kind[] memory) {
        return _kinds;
    }

    /// @notice A dispute by its number.
    function disputeAt(uint256 id) external view returns (Dispute memory) {
        return _dispute(id);
    }

    /// @notice A claim by its number.
    function defenceAt(uint256 number) external view returns (Defence memory) {
        return _defence(number);
    }

    /// @notice A game by its number.
    function gameAt(uint256 number) external view returns (Game memory) {
        return _game(number);
    }

    function _open(uint256 kind, bytes32 statement, bytes calldata opening, Place calldata place)
        private
        returns (uint256 id)
    {
        if (kind >= _kinds.length) revert UnknownKind(kind);
        Kind storage about = _kinds[kind];
        bool named = _requireOpening(about, statement, opening);
        bytes32 checkpoint;
        if (about.ofHeader) {
            if (!settlement.includesHeader(place.accepted, place.round, statement, place.siblings)) {
                revert HeaderNotIncluded(statement);
            }
            checkpoint = _disputable(place.accepted);
        }
        // a header that fell under one checkpoint may stand under another one, which must not become final either
        bool fell = !about.ofHeader || windowOf[checkpoint].refuted;
        if (fell && refuter[statement] != address(0)) revert AlreadyRefuted(statement);
        id = _disputes.length;
        Dispute storage opened = _disputes.push();
        opened.statement = statement;
        opened.checkpoint = checkpoint;
        opened.start = machine.digest(machine.start(statement));
        opened.kind = uint32(kind);
        opened.openedAt = uint48(block.timestamp);
        opened.state = State.Open;
        opened.named = named;
        emit Opened(id, statement, msg.sender, kind, checkpoint, named);
    }

    /// @dev A digest of another kind, or of another task, that somebody has signed is not false here: it is not ours.
    function _requireOpening(Kind storage kind, bytes32 statement, bytes calldata opening) private view returns (bool) {
        bytes memory head = kind.head;
        if (opening.length == 0 && kind.ofHeader) return false;
        bool begins = opening.length >= head.length && keccak256(opening[:head.length]) == keccak256(head);
        if (!begins || sha256(opening) != statement) revert WrongOpening(statement);
        return true;
    }

    function _claim(uint256 id, Claim calldata claim) private returns (uint256 number) {
        number = _defences.length;
        Defence storage claimed = _defences.push();
        claimed.end = machine.digest(Machine.State(ACCEPTED, claim.pc, claim.fp, claim.root));
        claimed.first = keccak256(abi.encode(claim.states));
        claimed.defender = msg.sender;
        claimed.dispute = uint48(id);
        claimed.standing = Standing.Stands;
        emit Claimed(number, id, msg.sender, claim);
    }

    /// @dev Begin a game of a claim in a dispute.
    function _play(uint256 id, uint256 defence) private returns (uint256 number) {
        ++_disputes[id].live;
        ++_defences[defence].live;
        _joined[defence][id] = true;
        number = _games.length;
        Game storage begun = _games.push();
        begun.challengerClock = _terms.clockSeconds;
        begun.defenderClock = _terms.clockSeconds;
        begun.since = uint48(block.timestamp);
        begun.level = _terms.levels;
        begun.phase = Phase.Choose;
        begun.dispute = uint64(id);
        begun.defence = uint64(defence);
        emit Joined(number, id, defence);
    }

    function _descend(uint256 number, Game storage played, bytes32[15] calldata states, uint256 part) private {
        bool top = played.level == _terms.levels;
        bytes32 shown = top ? _defences[played.defence].first : played.states;
        if (keccak256(abi.encode(states)) != shown) revert WrongStates(number);
        if (part >= PARTS) revert NoSuchPart(part);
        uint8 level = played.level - 1;
        uint64 position = played.position + uint64(part << (PART_BITS * level));
        if (part != 0) played.left = states[part - 1];
        else if (top) played.left = _disputes[played.dispute].start;
        if (part != PARTS - 1) played.right = states[part];
        else if (top) played.right = _defences[played.defence].end;
        played.position = position;
        played.level = level;
        emit Chosen(number, level, position, played.left, played.right);
    }

    function _execute(Game storage played, Machine.State calldata before, Machine.Witness calldata witness)
        private
        view
    {
        _requireState(machine.digest(before), played.left);
        bytes32 program = _kinds[_disputes[played.dispute].kind].program;
        _requireState(machine.digest(machine.step(program, before, witness)), played.right);
    }

    function _requireState(bytes32 found, bytes32 expected) private pure {
        if (found != expected) revert WrongState(found, expected);
    }

    /// @dev Whether the blocks lead from `value` to `end`, and are as many as demanded. Nothing comes before SHA-256's
    /// constant, so there a message begins.
    function _requireStretch(bytes32 end, bytes32 value, bytes calldata blocks, uint256 demanded) private view {
        uint256 count = blocks.length / Sha256.BLOCK_BYTES;
        if (end == Sha256.START) demanded = 0;
        bool whole = blocks.length % Sha256.BLOCK_BYTES == 0; // of what is shown nothing may be unchecked
        if (!whole || count > demanded || (count < demanded && value != Sha256.START)) {
            revert WrongBlocks(count, demanded);
        }
        if (demanded == 0) return;
        bytes32 found = machine.compress(value, blocks);
        if (found != end) revert WrongStretch(found, end);
    }

    /// @dev Account for the time that the side to move has used, and begin the next turn.
    /// @param least that it will have when its own next turn begins.
    function _move(uint256 number, Phase phase, uint256 least) private returns (Game storage played) {
        played = _game(number);
        if (played.phase != phase) revert WrongPhase(number, played.phase);
        _requireGoesOn(number, played);
        bool challengers = phase == Phase.Choose;
        if (challengers && msg.sender != _disputes[played.dispute].challenger) revert NotTheChallenger(number);
        if (challengers) played.challengerClock = _left(number, played.since, played.challengerClock, least);
        else played.defenderClock = _left(number, played.since, played.defenderClock, least);
        played.since = uint48(block.timestamp);
    }

    /// @dev Who wins is paid of the bond that the other side loses here: a claim's once, with its first lost game.
    function _finish(uint256 number, bool challengerWon, bool inTime) private {
        Game storage played = _games[number];
        uint256 id = played.dispute;
        Dispute storage about = _disputes[id];
        Defence storage claimed = _defences[played.defence];
        uint256 burn = _terms.bond / BURN_DIVISOR;
        _end(played);
        emit GameOver(number, id, challengerWon, inTime);
        _credit(challengerWon ? about.challenger : claimed.defender, _terms.bond - burn);
        if (challengerWon) claimed.standing = Standing.Lost;
        if (!challengerWon) _conclude(id, State.Upheld);
        else if (about.offer) _conclude(id, State.Refuted);
        _give(BURNED, burn);
    }

    /// @dev What was demanded and not shown is not paid for.
    function _end(Game storage played) private {
        Dispute storage about = _disputes[played.dispute];
        if (played.phase == Phase.Answer) _credit(about.challenger, _terms.demandFee);
        played.phase = Phase.Over;
        --about.live;
        --_defences[played.defence].live;
    }

    function _conclude(uint256 id, State state) private {
        Dispute storage about = _disputes[id];
        about.state = state;
        if (state == State.Refuted) _credit(about.challenger, _terms.bond);
        if (!about.offer) {
            --pending[about.statement];
            Window storage window = windowOf[about.checkpoint];
            bool ofHeader = _kinds[about.kind].ofHeader;
            if (ofHeader) --window.open;
            if (state == State.Refuted) {
                if (ofHeader) window.refuted = true;
                if (about.named) _convict(about);
            }
        }
        emit Settled(id, about.statement, state);
    }

    function _convict(Dispute storage about) private {
        if (refuter[about.statement] == address(0)) refuter[about.statement] = about.challenger;
    }

    function _windowSeconds() internal view override returns (uint256) {
        return _terms.windowSeconds;
    }

    function _dispute(uint256 id) private view returns (Dispute storage) {
        if (id >= _disputes.length) revert NotOpen(id);
        return _disputes[id];
    }

    /// @dev A dispute in which a claim can be made still.
    function _requireJoining(uint256 id) private view returns (Dispute storage dispute) {
        dispute = _dispute(id);
        if (dispute.state != State.Open || dispute.offer) revert NotOpen(id);
        if (block.timestamp >= dispute.openedAt + _terms.joinSeconds) revert JoinOver(id);
    }

    function _defence(uint256 number) private view returns (Defence storage) {
        if (number >= _defences.length) revert UnknownDefence(number);
        return _defences[number];
    }

    function _standing(uint256 number) private view returns (Defence storage found) {
        found = _defence(number);
        if (found.standing != Standing.Stands) revert NotStanding(number, found.standing);
    }

    function _game(uint256 number) private view returns (Game storage) {
        if (number >= _games.length) revert WrongPhase(number, Phase.None);
        return _games[number];
    }

    /// @dev Whether one of its sides has lost elsewhere.
    function _isDecided(Game storage played) private view returns (bool) {
        return _disputes[played.dispute].state != State.Open
            || _defences[played.defence].standing != Standing.Stands;
    }

    function _requireGoesOn(uint256 number, Game storage played) private view {
        if (played.phase == Phase.Over) revert WrongPhase(number, played.phase);
        if (_isDecided(played)) revert Decided(number);
    }
}
