#!/usr/bin/env bash
# Runs every shell command of the README and the documents, in order, each document in a fresh folder with `glia` on the PATH.
# Blocks that start with ```sh are run; a block ```sh no-run is not (it needs the reader's own files, or builds the program).
. "$(dirname "$0")/lib.sh"
ROOT=${GLIA_SOURCE:?set GLIA_SOURCE to the repository}
PATH=$(dirname "$GLIA"):$PATH
for document in "$ROOT"/README.md "$ROOT"/docs/*.md; do
  mkdir -p "$SCRATCH/$(basename "$document" .md)"
  cd "$SCRATCH/$(basename "$document" .md)" || exit 1
  awk '/^```sh$/ { run = 1; next } /^```/ { run = 0 } run' "$document" >commands.txt
  while IFS= read -r line; do
    case $line in '' | '#'*) continue ;; esac
    if bash -c "$line" >out.txt 2>&1 </dev/null; then
      pass
    else
      fail "$(basename "$document"): $line"
    fi
  done <commands.txt
done
finish
