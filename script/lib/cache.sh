# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# shellcheck shell=bash
# What is fetched or made once and kept between runs. Sourced; bash.
#
#   cached KEY COMMAND...    sets CACHED to a folder of the cache; when it is not there or not whole, it is made by
#                            COMMAND... FOLDER, which fills the empty FOLDER
#
# A key names everything that the content depends on. An entry is made under a temporary name and renamed when it is
# complete, so a run that is stopped leaves nothing half-made, and two runs do not disturb each other. Its checksums are
# verified at each use: a broken entry is made anew.

# Without HOME, as under some service managers, ~ is what the user database says.
cache_root=${XDG_CACHE_HOME:-~/.cache}/backplane

# Is the entry at $1 what was put there?
cache_whole()
{
    [ -f "$1/.sha256sums" ] && (cd "$1" && sha256sum --check --quiet --strict .sha256sums) >/dev/null 2>&1
}

cached()
{
    local key=$1 temporary
    shift
    CACHED=$cache_root/$key
    if cache_whole "$CACHED"; then
        return 0
    fi
    mkdir -p "$(dirname "$CACHED")" || return 1
    temporary=$(mktemp -d "$CACHED.XXXXXX") || return 1
    if ! "$@" "$temporary"; then
        rm -rf "$temporary"
        return 1
    fi
    (cd "$temporary" && find . -type f ! -name .sha256sums -print0 | sort -z | xargs -0 -r sha256sum >.sha256sums) ||
        return 1
    chmod 755 "$temporary"
    rm -rf "$CACHED"
    # Another run may have been faster: then what it made is as good.
    if ! mv -T "$temporary" "$CACHED" 2>/dev/null; then
        rm -rf "$temporary"
        cache_whole "$CACHED"
    fi
}
