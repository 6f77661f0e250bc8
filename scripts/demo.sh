#!/usr/bin/env bash
# From nothing to a trained model, predictions, pictures and numbers: installs what is missing, builds, runs `glia demo`.
# usage: scripts/demo.sh [--out DIR]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/setup.sh"
"$root/scripts/build.sh" release glia
exec "$root/build/bin/glia" demo "$@"
