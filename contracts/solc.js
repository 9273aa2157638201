#!/usr/bin/env node
// The compiler of package.json as a command, for analysers of source text: --version, and --standard-json from standard
// input. Code is not generated, which takes a minute and which they do not read: every contract's bytecode is empty.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const solc = require("solc");

const NO_CODE = { bytecode: { object: "", sourceMap: "" }, deployedBytecode: { object: "", sourceMap: "" }, methodIdentifiers: {} };

// The text of a source by the name that imports use: our own by its path here, a package's by its path in node_modules.
function read(name) {
  const places = [path.resolve(name), path.join(__dirname, name), path.join(__dirname, "node_modules", name)];
  const found = places.find((place) => fs.existsSync(place));
  return found === undefined ? { error: `${name}: no such source` } : { contents: fs.readFileSync(found, "utf8") };
}

function analyse(text) {
  const input = JSON.parse(text);
  input.settings.outputSelection = { "*": { "*": ["abi", "metadata", "devdoc", "userdoc"], "": ["ast"] } };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
  for (const contracts of Object.values(output.contracts ?? {})) {
    for (const contract of Object.values(contracts)) contract.evm = NO_CODE;
  }
  return JSON.stringify(output);
}

function main(options) {
  if (options.includes("--version")) {
    console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}`);
  } else if (options.includes("--standard-json")) {
    process.stdout.write(analyse(fs.readFileSync(0, "utf8")));
  } else {
    console.error(`solc.js: ${options.join(" ")}: expected --version or --standard-json`);
    process.exitCode = 2;
  }
}

main(process.argv.slice(2));
