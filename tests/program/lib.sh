# Shared by the end-to-end tests: a scratch folder, and checks that say what they expected.
# usage: . lib.sh; GLIA names the program.
set -u
: "${GLIA:?set GLIA to the program}"
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
cd "$SCRATCH" || exit 1
PASSED=0
FAILED=0

pass() { PASSED=$((PASSED + 1)); }
fail() {
  FAILED=$((FAILED + 1))
  printf 'FAILED: %s\n' "$1"
  [ -f out.txt ] && sed 's/^/    /' out.txt | tail -15
}

# expect CODE PHRASE COMMAND...: runs the command; its exit code and a phrase of its output ("" for any) must be as given.
expect() {
  local code=$1 phrase=$2 got=0
  shift 2
  "$@" >out.txt 2>&1 </dev/null || got=$?
  if [ "$got" != "$code" ]; then
    fail "exit $got instead of $code: $*"
  elif [ -n "$phrase" ] && ! grep -qF -- "$phrase" out.txt; then
    fail "no '$phrase' in the output of: $*"
  else
    pass
  fi
}

# file PATH...: each exists and is not empty.
file() {
  local path
  for path in "$@"; do
    if [ -s "$path" ]; then pass; else fail "$path is missing or empty"; fi
  done
}

# absent PATH...
absent() {
  local path
  for path in "$@"; do
    if [ -e "$path" ]; then fail "$path should not exist"; else pass; fi
  done
}

# number FILE KEY: the first number behind "KEY": in a JSON file.
number() { grep -o "\"$2\": *-\?[0-9.eE+-]*" "$1" | head -1 | sed 's/.*: *//'; }

# holds CONDITION: an awk expression over numbers, such as "0.5 > 0.3".
holds() { if awk "BEGIN { exit !($1) }"; then pass; else fail "$1 does not hold"; fi; }

hash_of() { find "$1" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; }

finish() {
  echo "$PASSED passed, $FAILED failed"
  [ "$FAILED" = 0 ]
}
