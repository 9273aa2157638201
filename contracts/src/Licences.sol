// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";

import {IERC5192} from "./IERC5192.sol";

/// @title Licences of data: what a holder lets others do with a dataset, until it takes its consent back.
/// @notice A token for each, which never leaves its account. Only digests are here. That the holder owns the data, or
/// that nobody else has the same, this contract does not know.
contract Licences is ERC721, IERC5192 {
    struct Licence {
        bytes32 dataRoot; // commits to the rows
        bytes32 terms; // digest of the text
        bytes2 jurisdiction; // ISO 3166-1, two letters, whose law the text names
        uint16 royalty; // basis points: the least that a task must leave to earlier versions (see `Tasks.admits`)
        uint48 issuedAt;
        uint48 revokedAt; // 0 while the consent stands
    }

    /// @notice A part of whatever the licence earns its holder, in basis points.
    struct Share {
        address curator;
        uint16 part;
    }

    event Issued(uint256 indexed id, address indexed holder, bytes32 indexed dataRoot, bytes32 terms);
    event Revoked(uint256 indexed id, address indexed holder, bytes32 indexed dataRoot);

    error EmptyDigest();
    error NotACountry(bytes2 code);
    error TooManyCurators(uint256 given, uint256 most);
    error NoCurator(uint256 index);
    error SharesTooLarge(uint256 total, uint256 most);
    error Soulbound(uint256 id);
    error NotTheHolder(uint256 id, address account);
    error AlreadyRevoked(uint256 id);

    uint256 public constant CURATORS_MAX = 8;
    uint256 private constant WHOLE = 10_000;

    /// @notice How many were ever issued; their numbers are 1 to count.
    uint256 public count;

    mapping(uint256 id => Licence) private _licences;
    mapping(uint256 id => Share[]) private _shares;

    constructor() ERC721("Collegium data licence", "CDL") {}

    /// @notice Issue a licence to the sender and return its number.
    function issue(
        bytes32 dataRoot,
        bytes32 terms,
        bytes2 jurisdiction,
        uint16 royalty,
        Share[] calldata shares_
    ) external returns (uint256 id) {
        if (dataRoot == 0 || terms == 0) revert EmptyDigest();
        if (!_isLetter(jurisdiction[0]) || !_isLetter(jurisdiction[1])) revert NotACountry(jurisdiction);
        if (shares_.length > CURATORS_MAX) revert TooManyCurators(shares_.length, CURATORS_MAX);
        if (royalty > WHOLE) revert SharesTooLarge(royalty, WHOLE);
        id = ++count;
        uint256 total = 0;
        for (uint256 index = 0; index < shares_.length; ++index) {
            if (shares_[index].curator == address(0)) revert NoCurator(index);
            total += shares_[index].part;
            _shares[id].push(shares_[index]);
        }
        if (total > WHOLE) revert SharesTooLarge(total, WHOLE);
        _licences[id] = Licence(dataRoot, terms, jurisdiction, royalty, uint48(block.timestamp), 0);
        _mint(msg.sender, id); // and not `_safeMint`, which would call the sender
        emit Locked(id);
        emit Issued(id, msg.sender, dataRoot, terms);
    }

    /// @notice Take the consent back, for good. What was made from the data before is named by the lineage.
    function revoke(uint256 id) external {
        address holder = _requireOwned(id);
        if (holder != msg.sender) revert NotTheHolder(id, holder);
        if (_licences[id].revokedAt != 0) revert AlreadyRevoked(id);
        _licences[id].revokedAt = uint48(block.timestamp);
        emit Revoked(id, holder, _licences[id].dataRoot);
    }

    /// @notice The licence with this number.
    function licence(uint256 id) external view returns (Licence memory) {
        _requireOwned(id);
        return _licences[id];
    }

    /// @notice The curators' shares of a licence.
    function shares(uint256 id) external view returns (Share[] memory) {
        _requireOwned(id);
        return _shares[id];
    }

    /// @inheritdoc IERC5192
    function locked(uint256 id) external view returns (bool) {
        _requireOwned(id);
        return true;
    }

    /// @notice Nobody can be allowed to transfer a licence.
    function approve(address, uint256 id) public pure override(ERC721) {
        revert Soulbound(id);
    }

    /// @notice Nobody can be allowed to transfer licences.
    function setApprovalForAll(address, bool) public pure override(ERC721) {
        revert Soulbound(0);
    }

    /// @inheritdoc IERC165
    function supportsInterface(bytes4 id) public view override(ERC721) returns (bool) {
        return id == type(IERC5192).interfaceId || super.supportsInterface(id);
    }

    function _update(address to, uint256 id, address auth) internal override returns (address from) {
        from = super._update(to, id, auth);
        if (from != address(0)) revert Soulbound(id);
    }

    function _isLetter(bytes1 code) private pure returns (bool) {
        return code >= "A" && code <= "Z";
    }
}
