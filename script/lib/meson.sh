# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# shellcheck shell=sh
# Build folders that are what a script thinks they are. Sourced; POSIX sh.
#
#   meson_configure FOLDER OPTION...     with CC in the environment, if it is to be another compiler
#
# A folder set up with the same options is left alone; one set up otherwise, or only half, is made anew.

# meson_configured FOLDER OPTION...: is it set up with these?
meson_configured()
{
    meson_folder=$1
    shift
    meson_stamp="${CC:-cc} $*"
    [ -f "$meson_folder/build.ninja" ] && [ "$(cat "$meson_folder/options.stamp" 2>/dev/null)" = "$meson_stamp" ]
}

meson_configure()
{
    if meson_configured "$@"; then
        return 0
    fi
    shift
    rm -rf "$meson_folder"
    meson setup "$meson_folder" "$@" || return 1
    printf '%s\n' "$meson_stamp" >"$meson_folder/options.stamp"
}
