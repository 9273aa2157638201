# Sourced by the scripts beside it. Leaves the shell in the repository root with .venv first on PATH.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Some containers forbid Python to keep what it compiled: every process that is started would compile it all again.
unset PYTHONDONTWRITEBYTECODE

# environment EXTRA...: makes .venv when it is missing; installs again when pyproject.toml has changed or an extra is
# wanted that is not there yet. The stamp inside .venv holds the digest of pyproject.toml, then the extras installed.
environment() {
  local stamp=.venv/.collegium-installed digest present wanted
  digest=$(sha256sum pyproject.toml | cut -d ' ' -f 1)
  if [ ! -x .venv/bin/python ]; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed" >&2; exit 2; }
    echo "making .venv: once, a few minutes" >&2
    python3 -m venv .venv
  fi
  PATH="$PWD/.venv/bin:$PATH"
  export PATH
  present=$(sed 1d "$stamp" 2>/dev/null || true)
  wanted=$(printf '%s\n' $present "$@" | sed '/^$/d' | sort -u)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$(printf '%s\n' "$digest" $wanted)" ]; then
    pip install -qq --no-compile --disable-pip-version-check --root-user-action ignore \
      --editable ".${wanted:+[$(echo $wanted | tr ' ' ',')]}"
    printf '%s\n' "$digest" $wanted >"$stamp"
  fi
}

# compile_kernels: compiles what numba keeps beside the sources, for processes to find: what rounds compute with, then what
# disputes do.
compile_kernels() {
  python -c 'from collegium.node import preload_roles; preload_roles("proved")'
  python -c 'from collegium.settlement import KnownStretches, MachineRun, compile_program
source = "from collegium.settlement.programs._words import accept\ndef main() -> None:\n    accept()\n"
program = compile_program("main", {}, {"main": source}.__getitem__)
assert MachineRun(program, bytes(32), KnownStretches([bytes(64)])).accepted'
}
