#!/usr/bin/env bash
# nginx, Caddy and promtool for the tests, from Debian's packages into .cache/tools: no root, nothing installed.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .cache/tools/usr/bin/caddy ] && [ -x .cache/tools/usr/sbin/nginx ] && [ -x .cache/tools/usr/bin/promtool ] && exit 0
if command -v nginx caddy promtool >/dev/null; then exit 0; fi
if ! command -v apt-get dpkg >/dev/null; then
  echo "nginx, caddy and promtool are not here, and there is no apt-get: what needs them is skipped" >&2
  exit 0
fi
mkdir -p .cache/debs
cd .cache/debs
apt-get download caddy nginx prometheus >/dev/null 2>&1 || {
  echo "apt-get brought no nginx, caddy or prometheus: what needs them is skipped" >&2
  exit 0
}
for package in ./*.deb; do dpkg -x "$package" ../tools; done
rm -f ./*.deb
