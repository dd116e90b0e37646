#!/usr/bin/env bash
# Installs what the tests need and this machine lacks. Debian's packages need root (or sudo without a password);
# without it, this prints the one command to type. Everything else goes into the directory given as the argument.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${1:-$PWD/target/tools}

# Each line: a program, and the Debian package that brings it.
needed="cc build-essential
make build-essential
pkg-config pkg-config
node nodejs
npm npm
strace strace
python3 python3-venv
redis-server redis-server
haproxy haproxy
promtool prometheus
chromium chromium
iptables iptables
pebble pebble
pebble-challtestsrv pebble
ip iproute2"

# Servers lie outside the path of ordinary users. Tests and `deploy` start their own: no service needs to run.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing=()
while read -r program package; do
    command -v "$program" >/dev/null || missing+=("$package")
done <<<"$needed"
# Debian keeps a version's programs in a directory of its own.
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
# Debian's python3 comes without what makes a venv.
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)

if ((${#missing[@]})); then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    install="apt-get install -y --no-install-recommends ${missing[*]}"
    if ((EUID == 0)); then
        run=()
    elif sudo -n true 2>/dev/null; then
        run=(sudo -n)
    else
        printf 'Some packages are missing. Type this, then try again:\n\n  sudo %s\n\n' "$install" >&2
        exit 1
    fi
    "${run[@]}" apt-get update -qq
    # shellcheck disable=SC2086 # the words of one command
    DEBIAN_FRONTEND=noninteractive "${run[@]}" $install
fi

if ! command -v cargo >/dev/null; then
    echo 'Rust is missing: install it with rustup (rust-toolchain.toml names the version).' >&2
    exit 1
fi
for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 || rustup component add "${component/fmt/rustfmt}"
done

# Built once; a build directory inside target/ would be thrown away and built again with every change of profile.
for tool in cargo-deny cargo-machete; do
    command -v "$tool" >/dev/null || cargo install --locked --root "$tools" "$tool"
done

# Tools from Python's index, in an environment of their own.
for tool in typos check-jsonschema kubernetes-validate; do
    command -v "$tool" >/dev/null && continue
    [ -x "$tools/python/bin/pip" ] || python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install --quiet --disable-pip-version-check "$tool"
    mkdir -p "$tools/bin"
    ln -sf "$tools/python/bin/$tool" "$tools/bin/$tool"
done

# The client libraries that relay/tests/clients.rs runs.
scripts/clients.sh
