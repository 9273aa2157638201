// Compile contracts and write one artifact each: ABI, bytecode and the hash of the sources it was made from. Those of
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
const CONTRACTS = ["Availability", "Courts", "Curation", "Disputes", "Dissections", "Fees", "Licences", "Machine", "ModelStep", "Registry", "Rewards", "Settlement", "Slashing", "Tasks"];
const TEST_CONTRACTS = ["TestCourt", "TestToken"];
const SETTINGS = {
  evmVersion: "prague",
  viaIR: true,
  optimizer: { enabled: true, runs: 10000 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "metadata"] } },
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
  const sources = {};
  for (const { source } of TARGETS) sources[source] = { content: read(source) };
  const input = JSON.stringify({ language: "Solidity", sources, settings: SETTINGS });
  const output = JSON.parse(solc.compile(input, { import: (name) => ({ contents: read(name) }) }));
  for (const problem of output.errors ?? []) console.error(problem.formattedMessage);
  if ((output.errors ?? []).length > 0) process.exit(1); // a warning too: the sources have none
  return output;
}

// SHA-256 over compiler, settings and every source that one contract needs, in the order of names.
function hashOf(metadata) {
  const hash = crypto.createHash("sha256");
  hash.update(`${solc.version()}\n${JSON.stringify(SETTINGS)}\n`);
  for (const name of Object.keys(JSON.parse(metadata).sources).sort()) {
    const text = read(name);
    hash.update(`${name}\n${text.length}\n${text}`);
  }
  return hash.digest("hex");
}

function artifacts() {
  const output = compile();
  return TARGETS.map(({ contract, source, folder }) => {
    const { abi, evm, metadata } = output.contracts[source][contract];
    const artifact = { contract, compiler: solc.version(), sourceHash: hashOf(metadata), abi, bytecode: evm.bytecode.object };
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
