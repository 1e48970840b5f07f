#!/bin/sh
# Builds the desk again and compares every byte with the committed dist, and
# checks the types on the way. Leaves nothing behind but node_modules.
#
# Without node it says so and succeeds on a laptop (desk_test.go still compares
# the checksums); where CI is set it fails.
set -eu
cd "$(dirname "$0")"

if ! command -v npm >/dev/null 2>&1; then
	echo "desk: npm is not installed, dist is not rebuilt" >&2
	[ -z "${CI:-}" ] || exit 1
	exit 0
fi

if grep -n '"resolved"' package-lock.json >&2; then
	echo "desk: package-lock.json names a registry host; remove the resolved fields" >&2
	exit 1
fi

# npm writes what it installed into this file; it is newer than the lock when nothing has to be done.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
	npm ci --no-audit --no-fund --loglevel=error
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
node_modules/.bin/tsc --noEmit
node_modules/.bin/vite build --logLevel error --outDir "$out/dist"
node seal.mjs "$out/dist" "$out/dist.sum"

if ! diff -r "$out/dist" dist >/dev/null; then
	echo "desk: dist is not what the source builds. Run: cd agentd/desk && npm ci && npm run build" >&2
	diff -rq "$out/dist" dist >&2 || true
	exit 1
fi
if ! cmp -s "$out/dist.sum" dist.sum; then
	echo "desk: dist.sum is not current. Run: cd agentd/desk && npm run build" >&2
	exit 1
fi
echo "desk: dist is current"
