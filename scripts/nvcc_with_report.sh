#!/bin/sh
# Runs nvcc and keeps what ptxas says of each kernel (registers, spills, shared memory) beside the object, as OBJECT.ptxas, for
# scripts/check_kernel_limits.sh. usage: nvcc_with_report.sh NVCC ARGUMENTS... (CMake's compiler launcher)
object=
previous=
for argument in "$@"; do
  if [ "$previous" = -o ]; then object=$argument; fi
  previous=$argument
done
if [ -z "$object" ]; then exec "$@"; fi
said=$(mktemp)
trap 'rm -f "$said"' EXIT
status=0
"$@" -Xptxas -v 2>"$said" || status=$?
grep -E '^ptxas info|^ *[0-9]+ bytes stack frame' "$said" >"$object.ptxas"
grep -vE '^ptxas info|^ *[0-9]+ bytes stack frame' "$said" >&2
exit $status
