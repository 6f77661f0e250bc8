#!/usr/bin/env bash
# No kernel spills registers, and none uses more of them than tests/gpu/kernel_limits.txt allows. Prints the largest.
# usage: check_kernel_limits.sh BUILD_FOLDER
set -euo pipefail
limits=$(cd "$(dirname "$0")/.." && pwd)/tests/gpu/kernel_limits.txt
reports=$(find "$1" -name '*.ptxas')
if [ -z "$reports" ]; then echo "no reports of ptxas under $1: was it built with nvcc?"; exit 1; fi
# shellcheck disable=SC2086
cat $reports | c++filt | awk -v limits="$limits" '
  BEGIN {
    while ((getline line < limits) > 0)
      if (line !~ /^#/ && split(line, field, " ") == 2) { count++; pattern[count] = field[1]; most[count] = field[2] }
  }
  /Compiling entry function/ { split($0, part, "\x27"); kernel = part[2]; arch = part[4]; stack = 0 }
  /bytes stack frame/ {
    if ($5 != 0 || $9 != 0) { print "spills: " kernel " (" arch "): " $0; bad = 1 }
  }
  /Used [0-9]+ registers/ {
    match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5) + 0; kernels++
    allowed = 0
    for (i = 1; i <= count && !allowed; i++) if (kernel ~ pattern[i]) allowed = most[i]
    if (registers > allowed) { print registers " registers, allowed " allowed ": " kernel " (" arch ")"; bad = 1 }
    if (registers > 96) large = large sprintf("%4d registers  %s  %s\n", registers, arch, substr(kernel, 1, 100))
  }
  END {
    printf "%s", large
    print kernels + 0 " kernels, of which " (bad ? "some break a limit" : "none spills or breaks a limit")
    if (!kernels) bad = 1
    exit bad
  }'
