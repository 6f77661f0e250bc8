#!/usr/bin/env bash
# Installs the Debian packages that Glia needs and this machine lacks. Asks for nothing; works as root or with sudo.
set -euo pipefail
packages=(g++ cmake ninja-build pkg-config doctest-dev libbenchmark-dev libhwy-dev libpng-dev libjpeg-dev libtiff-dev rapidjson-dev
  libtomlplusplus-dev libcli11-dev libfmt-dev zlib1g-dev libxxhash-dev)
optional=(libdnnl-dev ccache)  # oneDNN: the yardstick of the benchmarks; ccache: faster second builds

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }
missing=()
for package in "${packages[@]}" "${optional[@]}"; do installed "$package" || missing+=("$package"); done
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: every package is there"
  exit 0
fi
echo "setup: installing ${missing[*]}"
sudo=()
if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "setup: done"
