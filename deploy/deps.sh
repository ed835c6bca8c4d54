#!/bin/sh
# Installs the distribution packages that a part of this repository needs.
#
#   deploy/deps.sh demo     the two-guest demonstration (make demo)
#   deploy/deps.sh test     all tests (make test); includes demo
#   deploy/deps.sh bench    benchmarks and their rivals (make bench); includes test
#
# Only what is missing is installed, and nothing that is installed is upgraded.
# Without root it changes nothing: it prints the command to run and exits 1.
# Debian 12 and 13, Ubuntu 22.04 and later. Go itself is not installed here.
set -eu

demo="qemu-system-x86 busybox-static iperf3 ethtool xz-utils zstd"
test="$demo dpdk-dev librte-meta-net pkg-config iproute2 tcpdump gcc libc6-dev"
bench="$test openvswitch-switch-dpdk"

die() {
	echo "deps.sh: $*" >&2
	exit 1
}

[ $# -gt 0 ] || set -- demo
want=
for group; do
	case $group in
	demo) want="$want $demo" ;;
	test) want="$want $test" ;;
	bench) want="$want $bench" ;;
	*) die "unknown group '$group': use demo, test or bench" ;;
	esac
done
command -v apt-get >/dev/null 2>&1 ||
	die "no apt-get here; install the equivalents of:$want"

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for package in $want; do
	case " $missing " in *" $package "*) continue ;; esac
	installed "$package" || missing="$missing $package"
done

# The guests' kernel is downloaded, not installed (deploy/guest): that works
# for any user, but only with package lists. A kernel in the cache needs none.
lists=
cache=${VALE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vale-vmnet}
if [ ! -d "$cache/kernel-cloud" ] &&
	! apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 &&
	! apt-cache show linux-image-virtual >/dev/null 2>&1; then
	lists=stale
fi
for package in $missing; do
	apt-cache show "$package" >/dev/null 2>&1 || lists=stale
done

[ -n "$missing$lists" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	command=
	[ -z "$lists" ] || command="sudo apt-get update"
	[ -z "$missing" ] || command="${command:+$command && }sudo apt-get install -y --no-install-recommends$missing"
	echo "Please run:" >&2
	echo "  $command" >&2
	exit 1
fi

# Open vSwitch and others would start their services at once on a machine that
# only wants the programs; policy-rc.d is the distribution's way to say no.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
fi

export DEBIAN_FRONTEND=noninteractive
[ -z "$lists" ] || apt-get update -q
[ -n "$missing" ] || exit 0
echo "installing:$missing"
install() {
	# shellcheck disable=SC2086 # a list of words
	apt-get install -q -y --no-install-recommends --no-upgrade $missing
}
# Lists older than the archive name files that are gone.
install || { apt-get update -q && install; }
