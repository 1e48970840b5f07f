#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: Postgres as a private
# server, mosquitto as a stock client, node and Chromium for the desk. Nothing is started
# and no service is left running.
set -euo pipefail

missing=()
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
command -v npm >/dev/null || missing+=(nodejs npm)
command -v mosquitto_pub >/dev/null || missing+=(mosquitto-clients)
command -v chromium >/dev/null || missing+=(chromium)
fc-list :lang=zh 2>/dev/null | grep -q . || missing+=(fontconfig fonts-wqy-microhei)
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
	echo "The tests need: ${missing[*]}. Install them, or point TEST_POSTGRES_URL at a Postgres for the tests." >&2
	exit 1
fi
run=()
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "The tests need: apt-get install ${missing[*]} (as root)" >&2
		exit 1
	fi
	run=(sudo)
fi
echo "installing for the tests: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${run[@]}" apt-get update -qq
# A database cluster and a running service are of no use here: the tests start their own.
if [[ " ${missing[*]} " == *" postgresql "* ]]; then
	"${run[@]}" mkdir -p /etc/postgresql-common/createcluster.d
	echo 'create_main_cluster = false' | "${run[@]}" tee /etc/postgresql-common/createcluster.d/holdline-tests.conf >/dev/null
fi
"${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
