#!/bin/sh
# Installs what tests need and pip cannot give, from Debian's packages: Chromium, curl, and promtool into the folder named.
# Where that cannot be done it says so; the tests that need it then skip, or fail where GSCHED_REQUIRE_ALL is set.
set -eu
target=$1

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

missing() {
  echo "*** $1 cannot be installed here: the tests that need it are skipped ***" >&2
}

updated=
update() {
  [ -n "$updated" ] || as_root apt-get update -qq
  updated=yes
}

for package in chromium curl; do
  if ! command -v "$package" >/dev/null; then
    if command -v apt-get >/dev/null && update >/dev/null 2>&1; then
      DEBIAN_FRONTEND=noninteractive as_root apt-get install -qq -y --no-install-recommends "$package" >/dev/null 2>&1 || missing "$package"
    else
      missing "$package"
    fi
  fi
done

if ! command -v promtool >/dev/null && [ ! -x "$target/promtool" ]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  # Only unpacked: installing the package would start a server.
  if command -v apt-get >/dev/null && update >/dev/null 2>&1 &&
    (cd "$scratch" && chmod 777 . && apt-get download -qq prometheus >/dev/null 2>&1 && dpkg -x prometheus_*.deb unpacked); then
    cp "$scratch/unpacked/usr/bin/promtool" "$target/"
  else
    missing promtool
  fi
fi
