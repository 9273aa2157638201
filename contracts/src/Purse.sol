// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @title Coin that a contract holds for accounts: native, or of one ERC-20 token fixed at deployment.
/// @notice Nothing is sent while something else is decided: what an account is due is written down, and `collect` sends
/// it. So an account that refuses coin stops nobody but itself.
abstract contract Purse {
    using SafeERC20 for IERC20;

    event Credited(address indexed account, uint256 amount);
    event Collected(address indexed account, uint256 amount);

    error NothingOwed(address account);
    error WrongValue(uint256 sent, uint256 expected);
    error ShortTransfer(uint256 received, uint256 expected);

    /// @notice Where coin goes that nobody is to have: an address without a key.
    address public constant BURNED = 0x000000000000000000000000000000000000dEaD;

    /// @notice The token in which everything here is counted; 0 for the chain's own coin.
    IERC20 public immutable token;

    /// @notice What `collect` would send.
    mapping(address account => uint256 amount) public owed;

    constructor(IERC20 token_) {
        token = token_;
    }

    /// @notice Send an account what it is owed. Anyone may call it: the coin goes nowhere else.
    function collect(address account) external {
        uint256 amount = owed[account];
        if (amount == 0) revert NothingOwed(account);
        owed[account] = 0;
        emit Collected(account, amount);
        _give(account, amount);
    }

    function _credit(address account, uint256 amount) internal {
        if (amount == 0) return;
        owed[account] += amount;
        emit Credited(account, amount);
    }

    /// @dev A token that delivers less than was asked for is refused: else the last to collect would find too little.
    function _take(uint256 amount) internal {
        if (address(token) == address(0)) {
            if (msg.value != amount) revert WrongValue(msg.value, amount);
            return;
        }
        if (msg.value != 0) revert WrongValue(msg.value, 0);
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert ShortTransfer(received, amount);
    }

    function _give(address account, uint256 amount) internal {
        if (address(token) == address(0)) Address.sendValue(payable(account), amount);
        else token.safeTransfer(account, amount);
    }
}
