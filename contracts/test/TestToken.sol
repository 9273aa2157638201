// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A token that mints to anybody and keeps `toll` of every transfer, for tests.
contract TestToken is ERC20("Test", "TEST") {
    uint256 public toll;

    constructor(uint256 toll_) {
        toll = toll_;
    }

    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        bool plain = from == address(0) || to == address(0) || toll == 0;
        super._update(from, to, plain ? amount : amount - toll);
        if (!plain) super._update(from, address(0), toll);
    }
}
