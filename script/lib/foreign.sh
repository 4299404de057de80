# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# shellcheck shell=bash
# Packages of another architecture, unpacked into a folder, from the archive that this machine already uses. apt runs
# with a private configuration: the system's own architectures, lists and packages stay as they are. Sourced; bash.
#
#   foreign_unpack ARCHITECTURE PACKAGE... FOLDER

# The sources of this machine, one a line: URI RELEASE COMPONENT KEYRING. A variable that apt does not know stays as it
# is, so the keyring may be no file.
list_sources()
{
    # shellcheck disable=SC2016 # apt's variables, not ours
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)' 'Created-By: Packages' | sort -u
}

foreign_unpack()
{
    local architecture=$1 folder=${*: -1} work codename line uri release component signed sources
    local packages=("${@:2:$#-2}") options
    work=$(mktemp -d) || return 1
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/parts" "$work/debs"
    : >"$work/status"
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    sources=$work/sources.list
    while read -r uri release component signed; do
        case $release in
        "$codename" | "$codename"-*)
            line="deb"
            if [ -n "$signed" ] && [ -f "$signed" ]; then
                line="$line [signed-by=$signed]"
            fi
            echo "$line $uri $release $component" >>"$sources"
            ;;
        esac
    done < <(list_sources)
    options=(-q -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture"
        -o "Dir::Etc::SourceList=$sources" -o "Dir::Etc::SourceParts=$work/parts" -o "Dir::State=$work/state"
        -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
    if (apt-get "${options[@]}" update && cd "$work/debs" &&
        apt-get "${options[@]}" download "${packages[@]}") >"$work/log" 2>&1; then
        for deb in "$work"/debs/*.deb; do
            dpkg-deb -x "$deb" "$folder" || return 1
        done
        rm -rf "$work"
        return 0
    fi
    tail -n 20 "$work/log" >&2
    rm -rf "$work"
    return 1
}
