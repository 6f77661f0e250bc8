#!/usr/bin/env bash
# Installs the Debian packages that Glia needs and this machine lacks. Asks for nothing; works as root or with sudo.
# usage: scripts/setup.sh [MORE-PACKAGES]
set -euo pipefail
needed=(g++ cmake ninja-build pkg-config doctest-dev libbenchmark-dev libhwy-dev libpng-dev libjpeg-dev libtiff-dev rapidjson-dev
  libtomlplusplus-dev libcli11-dev libfmt-dev zlib1g-dev libxxhash-dev "$@")
optional=(libdnnl-dev ccache)  # oneDNN: the yardstick of the benchmarks; ccache: faster second builds

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }
missing=()
missing_optional=()
for package in "${needed[@]}"; do installed "$package" || missing+=("$package"); done
for package in "${optional[@]}"; do installed "$package" || missing_optional+=("$package"); done
if [ ${#missing[@]} -eq 0 ] && [ ${#missing_optional[@]} -eq 0 ]; then
  echo "setup: every package is there"
  exit 0
fi
echo "setup: installing ${missing[*]} ${missing_optional[*]}"
sudo=()
if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
install() { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
"${sudo[@]}" apt-get update -qq || echo "setup: the package lists could not be refreshed; the ones there are used"
if [ ${#missing[@]} -gt 0 ]; then install "${missing[@]}"; fi
for package in "${missing_optional[@]}"; do install "$package" || echo "setup: $package could not be installed; Glia builds without it"; done
echo "setup: done"
