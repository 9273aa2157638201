// Compile contracts and write one artifact each: ABI, bytecode and the hash of every source it was made from. Those of
// src go into the package, those of test, which stand in for other people's contracts, to the tests' data.
//   node compile.js            write the artifacts
//   node compile.js --check    compile and compare byte for byte with the artifacts; exit 1 on a difference
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");
const solc = require("solc");

const ROOT = path.join(__dirname, "..");
const PACKAGE = path.join(ROOT, "src", "collegium", "settlement", "artifacts");
const TESTS = path.join(ROOT, "tests", "data", "contracts");
const CONTRACTS = ["Availability", "Curation", "Disputes", "Fees", "Licences", "ModelStep", "Registry", "Rewards", "Settlement", "Slashing", "Tasks"];
const TEST_CONTRACTS = ["TestCourt", "TestToken"];
const SETTINGS = {
  evmVersion: "prague",
  viaIR: true,
  optimizer: { enabled: true, runs: 10000 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
};

// Where each contract's source is, by the name that imports use, and where its artifact goes.
const TARGETS = [
  ...CONTRACTS.map((contract) => ({ contract, source: `src/${contract}.sol`, folder: PACKAGE })),
  ...TEST_CONTRACTS.map((contract) => ({ contract, source: `test/${contract}.sol`, folder: TESTS })),
];

// The text of a source by the name that imports use: our own by its path here, a package's by its path in node_modules.
function read(name) {
  const own = path.join(__dirname, name);
  return fs.readFileSync(fs.existsSync(own) ? own : path.join(__dirname, "node_modules", name), "utf8");
}

function compile() {
  const used = new Map();
  const load = (name) => {
    used.set(name, read(name));
    return used.get(name);
  };
  const sources = {};
  for (const { source } of TARGETS) sources[source] = { content: load(source) };
  const input = JSON.stringify({ language: "Solidity", sources, settings: SETTINGS });
  const output = JSON.parse(solc.compile(input, { import: (name) => ({ contents: load(name) }) }));
  for (const problem of output.errors ?? []) console.error(problem.formattedMessage);
  if ((output.errors ?? []).length > 0) process.exit(1); // a warning too: the sources have none
  return { output, sourceHash: hashOf(used) };
}

// SHA-256 over compiler, settings and every source that was read, in the order of names.
function hashOf(used) {
  const hash = crypto.createHash("sha256");
  hash.update(`${solc.version()}\n${JSON.stringify(SETTINGS)}\n`);
  for (const name of [...used.keys()].sort()) hash.update(`${name}\n${used.get(name).length}\n${used.get(name)}`);
  return hash.digest("hex");
}

function artifacts() {
  const { output, sourceHash } = compile();
  return TARGETS.map(({ contract, source, folder }) => {
    const { abi, evm } = output.contracts[source][contract];
    const artifact = { contract, compiler: solc.version(), sourceHash, abi, bytecode: evm.bytecode.object };
    return [path.join(folder, `${contract}.json`), `${JSON.stringify(artifact, null, 1)}\n`];
  });
}

function main() {
  const check = process.argv.includes("--check");
  for (const [file, text] of artifacts()) {
    const name = path.basename(file);
    if (!check) {
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, text);
      console.log(`${name}: ${JSON.parse(text).bytecode.length / 2} bytes of creation code`);
    } else if (!fs.existsSync(file) || fs.readFileSync(file, "utf8") !== text) {
      console.error(`${name}: differs from what the sources compile to; run 'npm run compile'`);
      process.exitCode = 1;
    }
  }
}

main();
