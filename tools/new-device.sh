#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Begins a new device: tools/new-device.sh NAME
#
# Copies src/devices/template and its fuzz corpus, renames everything in them, and adds the folder to the build. NAME is
# lower case, begins with a letter, and may have digits and underscores: it becomes the folder, the prefix of all names,
# and (in capitals) that of the constants. docs/adding-a-device.md says what comes next.
set -eu
cd "$(dirname "$0")/.."

complain()
{
    echo "tools/new-device.sh: $2" >&2
    exit "$1"
}

[ $# -eq 1 ] || complain 2 "which name? usage: tools/new-device.sh NAME"
name=$1
LC_ALL=C
export LC_ALL
[[ $name =~ ^[a-z][a-z0-9_]*$ ]] || complain 2 "'$name' is no name: a-z first, then a-z, 0-9 and _"
[ "$name" != template ] || complain 2 "the template is there already; choose another name"
[ ! -e "src/devices/$name" ] || complain 1 "src/devices/$name is there already"
[ ! -e "fuzz/corpus/$name" ] || complain 1 "fuzz/corpus/$name is there already"
last=$(grep -n "^subdir('src/devices/" meson.build | grep -v "'src/devices/template'" | tail -n 1 | cut -d : -f 1)
[ -n "$last" ] || complain 1 "meson.build has no line of a device after which to add this one"

capitals=${name^^}
mkdir -p "src/devices/$name"
for from in src/devices/template/*; do
    to=src/devices/$name/$(basename "$from" | sed "s/template/$name/")
    sed -e "s/template/$name/g" -e "s/TEMPLATE/$capitals/g" "$from" >"$to"
done
cp -r fuzz/corpus/template "fuzz/corpus/$name"
sed -i "${last}a subdir('src/devices/$name')" meson.build
# A longer name may break lines elsewhere.
if command -v clang-format >/dev/null; then
    clang-format -i "src/devices/$name"/*.[ch]
fi

echo "src/devices/$name is there, built and tested: script/test unit"
echo "Next: docs/adding-a-device.md, from step 2 on."
