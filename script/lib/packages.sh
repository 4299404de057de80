# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# shellcheck shell=sh
# Debian packages that a part of the work needs. Sourced by the scripts of this folder; POSIX sh.
#
#   need_packages GROUP...    installs what is missing of these groups, and nothing else; says each package and why
#
# Works as root or through sudo, on Debian 12 and 13, without asking. BACKPLANE_INSTALL=no only reports what is missing.

# GROUP PACKAGE REASON, one line each. Debian 12 and 13 both have every one of them.
package_table()
{
    # Debian 12 has virtiofsd and qemu-storage-daemon in one package, Debian 13 the first in one of its own.
    back_ends=virtiofsd
    case "$(cat /etc/debian_version 2>/dev/null)" in
    12*) back_ends=qemu-system-common ;;
    esac
    guest_qemu=qemu-system-x86
    [ "$(uname -m)" != aarch64 ] || guest_qemu=qemu-system-arm
    cat <<TABLE
build  gcc                      compiles Backplane
build  libc6-dev                headers of the C library
build  meson                    the build system
build  ninja-build              runs the build
build  pkgconf                  finds libraries
build  liburing-dev             block I/O by io_uring
build  libseccomp-dev           limits what threads may ask of the kernel
build  libfdt-dev               device trees, which arm64 machines need
build  libjansson-dev           JSON of the control socket
build  python3                  runs meson and the checks in tools/
build  binutils                 ar and nm, for the library and the purity check
test   libcmocka-dev            unit tests
test   clang                    the second compiler, sanitizers
test   libclang-rt-dev          run-time of the sanitizers and of libFuzzer
test   acpica-tools             checks ACPI tables with the reference compiler
test   device-tree-compiler     checks device trees with the reference compiler
test   qemu-utils               image locks are tried against QEMU's own
test   $back_ends       back ends of other people for our front end: a file system, and on Debian 12 a disk
test   llvm                     readable sanitizer reports
cover  gcovr                    line coverage
count  valgrind                 counts instructions
smoke  qemu-system-x86          boots the kernel-less smoke image
guest  $guest_qemu          runs the guest, and is its vhost-user front end
bench  qemu-system-common       qemu-storage-daemon on Debian 12, the peer that is measured beside us
bench  qemu-utils               qemu-storage-daemon on Debian 13
bench  fio                      what the same file gives without a ring in between
bench  strace                   counts system calls
bench  valgrind                 counts instructions (callgrind) and memory accesses (lackey)
lint   clang-format             form of the C sources
lint   clang-tidy               static analysis
lint   cppcheck                 static analysis, a second view
lint   codespell                spelling
lint   shellcheck               static analysis of shell scripts
lint   man-db                   checks the manual pages
kernel bc                       computes constants in Linux's build
kernel bison                    parsers of Linux's build
kernel flex                     scanners of Linux's build
kernel libelf-dev               Linux's build looks into its objects
kernel make                     runs Linux's build
kernel xz-utils                 unpacks Linux's source
kvm    qemu-system-x86          emulates an x86-64 processor with virtualization
kvm    qemu-system-arm          emulates an arm64 processor with virtualization
cross  gcc-aarch64-linux-gnu    compiles for arm64
cross  libc6-dev-arm64-cross    the arm64 C library
cross  qemu-user                runs arm64 programs
TABLE
}

package_installed()
{
    case "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" in
    installed) return 0 ;;
    esac
    return 1
}

# Prints the missing packages of the groups, one a line: PACKAGE REASON.
missing_packages()
{
    for group in "$@"; do
        package_table | while read -r of package reason; do
            if [ "$of" = "$group" ] && ! package_installed "$package"; then
                printf '%s %s\n' "$package" "$reason"
            fi
        done
    done | sort -u -k1,1
}

as_root()
{
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

apt_install()
{
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        install --no-install-recommends "$@"
}

need_packages()
{
    program=${0##*/}
    if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
        echo "$program: this system has no apt-get, so nothing can be installed: use Debian 12 or 13" >&2
        return 1
    fi
    need_list=$(missing_packages "$@")
    [ -n "$need_list" ] || return 0

    echo "$program: these packages are missing:"
    printf '%s\n' "$need_list" | while read -r package reason; do
        printf '  %s: %s\n' "$package" "$reason"
    done
    need_names=$(printf '%s\n' "$need_list" | cut -d' ' -f1 | tr '\n' ' ')

    if [ "${BACKPLANE_INSTALL:-yes}" = no ]; then
        echo "$program: BACKPLANE_INSTALL=no, so they are not installed" >&2
        return 1
    fi
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then
        echo "$program: cannot install them: neither root nor sudo. As root: apt-get install $need_names" >&2
        return 1
    fi

    need_log=$(mktemp) || return 1
    echo "$program: installing them; that can take a few minutes"
    # The package lists of this machine may be absent or too old: then they are fetched, and it is tried once more.
    # shellcheck disable=SC2086 # the names are a list
    if apt_install $need_names >"$need_log" 2>&1 ||
        { as_root apt-get -q update >>"$need_log" 2>&1 && apt_install $need_names >>"$need_log" 2>&1; }; then
        rm -f "$need_log"
        echo "$program: installed"
        return 0
    fi
    tail -n 20 "$need_log" >&2
    rm -f "$need_log"
    echo "$program: cannot install $need_names(see above)" >&2
    return 1
}
