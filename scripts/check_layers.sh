#!/bin/sh
# Which folder may include which (docs/architecture.md), and that no program is started. usage: check_layers.sh [ROOT]
cd "${1:-.}" || exit 2
allow() {
  case $1 in
    gpu) echo gpu ;;
    tensor) echo "gpu tensor" ;;
    kernels) echo "gpu tensor kernels" ;;
    autograd) echo "gpu tensor kernels autograd" ;;
    nn) echo "gpu tensor kernels autograd nn" ;;
    data) echo "gpu tensor kernels data" ;;
    models) echo "gpu tensor kernels autograd nn data models" ;;
    train) echo "gpu tensor kernels autograd nn data train" ;;
    apps) echo "gpu tensor kernels autograd nn data models train apps bench" ;;
    bench | tests) echo "gpu tensor kernels autograd nn data models train apps bench tests" ;;
  esac
}
bad=0
for file in $(find gpu tensor kernels autograd nn data models train apps bench tests \
                -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null); do
  top=${file%%/*}
  for include in $(sed -n 's/^#include "\([a-z_]*\)\/.*/\1/p' "$file" | sort -u); do
    case " $(allow "$top") " in
      *" $include "*) ;;
      *) echo "$file may not include $include/"; bad=1 ;;
    esac
  done
  case $file in
    kernels/reference/* | kernels/cpu/* | kernels/cuda/* | kernels/vendor/* | bench/ladders/*) ;;
    *) if grep -nE '^#include "kernels/(cuda|vendor)/' "$file"; then
         echo "$file may not include a leaf of kernels/"; bad=1
       fi ;;
  esac
  case $file in
    gpu/* | kernels/cuda/* | kernels/vendor/* | tensor/device.cpp | tensor/memory.cpp) ;;
    *) if grep -nE '^#include <(cuda|cudnn|cublas|nccl)' "$file"; then echo "$file may not include CUDA headers"; bad=1; fi ;;
  esac
done
# R18: no shell and no other program. (glia compare runs glia itself; the race checker, which glia does not hold, asks addr2line.)
if grep -rnE '(^|[^a-zA-Z0-9_.])(system|popen|exec[lv][a-z]*|posix_spawnp?|vfork|wordexp)\(' \
  --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' gpu tensor kernels autograd nn data models train apps |
  grep -vE '^(apps/child_process|gpu/emulator/race_checker)\.cpp:'; then
  echo "no source may start other programs"; bad=1
fi
[ $bad = 0 ] && echo "layers: ok"
exit $bad
