#!/usr/bin/env bash
# Installs the brokers that `perf compare` and `perf freshblu` run beside ours.
#
# Usage: perf/peers.sh [DIR]      (default: target/peers)
#
# rumqttd, rmqttd and freshblu-server are built from the crate registry into DIR/bin. mosquitto comes from the
# distribution: `apt-get install mosquitto`, and stop the service that it starts
# (`systemctl disable --now mosquitto`). To build rmqttd, `apt-get install protobuf-compiler cmake
# clang libssl-dev pkg-config` may be needed.
set -eu

directory=${1:-target/peers}
failed=0

install() {
    if [ -x "$directory/bin/$1" ]; then
        echo "$1: already in $directory/bin"
    elif ! cargo install --locked --root "$directory" "$1" --version "$2"; then
        echo "$1: could not be built; comparisons will go without it and say so" >&2
        failed=1
    fi
}

install rumqttd 0.20.0
install rmqttd 0.24.0
# For `perf freshblu`.
install freshblu-server 1.0.0

if command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ]; then
    echo "mosquitto: installed"
else
    echo "mosquitto: missing; apt-get install mosquitto" >&2
    failed=1
fi
exit "$failed"
