# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# shellcheck shell=bash
# The parts of script/test. Sourced by it, from the root of the tree.
#
# shellcheck disable=SC2154 # root, BACKPLANE_LONG and fuzz_named are script/test's
#
# A *job* is what can run beside other jobs: one build with the tests that it runs, or a set of checks. Each has its own
# log and its own list of results in build-test/. Jobs run two at a time; real guests run alone, since they take every
# processor and have time limits.

jobs_at_once=2
logs=build-test/logs
results=build-test/results
state=build-test/state

# ---- results

# record VERDICT PART NAME [REASON]
record()
{
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4-}" >>"$results/$job.tsv"
}

# check PART NAME COMMAND...: one result. Exit 0 passes, 77 is a skip whose reason is the last line, all else fails.
check()
{
    local part=$1 name=$2 status
    local log="$logs/$part-${name//[^a-zA-Z0-9]/-}.log"
    shift 2
    "$@" >"$log" 2>&1
    status=$?
    case $status in
    0) record pass "$part" "$name" ;;
    77) record skip "$part" "$name" "$(tail -n 1 "$log")" ;;
    *)
        record fail "$part" "$name" "exit $status, see $log"
        show_failure "$part: $name" "$log"
        return 1
        ;;
    esac
    return 0
}

show_failure()
{
    echo
    echo "---- $1 failed; the end of $2:"
    tail -n 150 "$2"
    echo "----"
}

# ---- builds

# build_options NAME: the meson options of build-test/NAME, one a line.
build_options()
{
    local sanitized=(-Dtests=enabled -Dprograms=enabled -During=enabled -Dfdt=enabled -Dbench=false -Dsmoke=false
        -Db_lundef=false)
    case $1 in
    gcc) printf '%s\n' -Dtests=enabled -Dprograms=enabled -During=enabled -Dfdt=enabled ;;
    clang) printf '%s\n' -Dtests=enabled -Dprograms=enabled -During=enabled -Dfdt=enabled -Dsmoke=false ;;
    # As released: its instructions are counted.
    instructions)
        printf '%s\n' --buildtype=release -Dtests=disabled -Dprograms=disabled -During=enabled -Dsmoke=false
        ;;
    # What packagers may leave out: that it builds is all there is to see.
    least)
        printf '%s\n' -Dtests=disabled -Dprograms=enabled -During=disabled -Dseccomp=disabled -Dfdt=disabled \
            -Dsmoke=false -Dbench=false
        ;;
    asan)
        printf '%s\n' "${sanitized[@]}" -Db_sanitize=address,undefined \
            '-Dc_args=-fno-sanitize-recover=all -fno-omit-frame-pointer'
        ;;
    tsan) printf '%s\n' "${sanitized[@]}" -Db_sanitize=thread -Dc_args=-fno-omit-frame-pointer ;;
    coverage)
        printf '%s\n' --buildtype=debug -Dtests=enabled -Dprograms=enabled -During=enabled -Dfdt=enabled -Dbench=false \
            -Dsmoke=false -Db_coverage=true -Dc_args=-fprofile-update=atomic
        ;;
    fuzz)
        printf '%s\n' -Dtests=disabled -Dprograms=disabled -Dbench=false -Dsmoke=false -Dfuzz=true \
            -Db_lundef=false -Db_sanitize=address,undefined \
            '-Dc_args=-fno-sanitize-recover=all -fsanitize=fuzzer-no-link'
        ;;
    arm64)
        printf '%s\n' --cross-file=tools/aarch64-linux.ini --cross-file=build-test/aarch64-sysroot.ini \
            -Dtests=enabled -Dprograms=enabled -During=enabled -Dbench=false -Dsmoke=false
        ;;
    esac
}

build_compiler()
{
    case $1 in
    clang | asan | tsan | fuzz | least) echo clang ;;
    *) echo gcc ;;
    esac
}

# build PART NAME: configures and builds build-test/NAME; that it builds without a warning is a result.
build()
{
    check "$1" "builds ($2)" build_quietly "$2"
}

build_quietly()
{
    local options
    mapfile -t options < <(build_options "$1")
    (
        # Two jobs may want the same folder.
        flock 8
        CC=$(build_compiler "$1") meson_configure "build-test/$1" --werror "${options[@]}" && ninja -C "build-test/$1"
    ) 8>"build-test/$1.lock"
}

# suites PART NAME SUITE...: runs these suites of build-test/NAME, one result for each test function.
suites()
{
    local part=$1 folder=build-test/$2 suite log
    local options=(--no-rebuild --print-errorlogs --num-processes 2)
    shift 2
    case $folder in
    */asan | */tsan | */arm64) options+=(--timeout-multiplier 4) ;;
    esac
    for suite in "$@"; do
        log=$logs/$part-$suite.log
        rm -f "$folder/meson-logs/$part-$suite.json"
        "${runner[@]}" meson test -C "$folder" "${options[@]}" --logbase "$part-$suite" --suite "$suite" >"$log" 2>&1
        collect "$part" "$suite" "$folder/meson-logs/$part-$suite.json" "$log"
    done
}

runner=()

# collect PART SUITE TESTLOG LOG: takes over what meson has written, and shows LOG if anything in it failed. meson's own
# exit status does not count: it takes the skips of older cmockas for failures.
collect()
{
    local collected=$logs/$1-$2.tsv
    rm -f "$collected"
    if [ ! -s "$3" ] || ! tools/test-results meson "$1" "$3" "$collected"; then
        record fail "$1" "suite $2 runs" "no test ran, see $4"
        show_failure "$1: suite $2" "$4"
        return
    fi
    cat "$collected" >>"$results/$job.tsv"
    ! grep -q '^fail' "$collected" || show_failure "$1: suite $2" "$4"
}

# tap PART NAME COMMAND...: a program that prints TAP, one result for each of its lines.
tap()
{
    local part=$1 output=$logs/$1-$2.tap
    shift 2
    "$@" >"$output" 2>"$output.err" || {
        show_failure "$part" "$output"
        show_failure "$part" "$output.err"
    }
    tools/test-results tap "$part" "$output" "$results/$job.tsv"
}

# ---- jobs

job_gcc()
{
    build gcc gcc || return
    local part
    for part in "${chosen[@]}"; do
        case $part in
        smoke)
            if [ "$(uname -m)" = x86_64 ]; then
                suites smoke gcc smoke
            else
                record skip smoke "the image without a kernel" "it is made for x86-64 machines"
            fi
            ;;
        unit | fuzz | conformance | cli | idle) suites "$part" gcc "$part" ;;
        esac
    done
}

job_clang()
{
    build clang least
    build clang clang && suites clang clang unit
}

job_asan()
{
    export ASAN_OPTIONS=halt_on_error=1:abort_on_error=1:detect_leaks=1:allocator_may_return_null=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    build sanitizers asan && suites asan asan unit fuzz conformance cli
}

job_tsan()
{
    export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
    # Its shadow memory has fixed places, which address randomisation of newer kernels can take.
    if setarch -R true 2>/dev/null; then
        runner=(setarch -R)
    fi
    build sanitizers tsan && suites tsan tsan unit conformance cli
}

job_coverage()
{
    build coverage coverage || return
    # A program that runs as another user cannot write its counts; where output is judged it is not to complain of that.
    export GCOV_ERROR_FILE=/dev/null
    # What an earlier run counted is not to count again.
    find build-test/coverage -name '*.gcda' -delete
    suites coverage coverage unit fuzz conformance cli
    check coverage "stays above its floor" coverage_floor
    [ ! -s build-test/coverage.txt ] || tail -n 3 build-test/coverage.txt
}

# What runs where there is a whole KVM alone: part kvm shows it, in machines whose counts are not collected.
needs_kvm=(--exclude 'src/vmm/' --exclude 'src/programs/(command_)?vm(_[a-z]+)?\.c' --exclude 'src/library/kvm.c'
    --exclude 'src/platform/kvm/kvm_(arm64|whole|x86|dirty|vcpu)[a-z0-9_]*\.c')

coverage_floor()
{
    gcovr --root . --object-directory build-test/coverage --filter src/ \
        --exclude '.*_(test|fuzz)(_rig|_support)?\.[ch]' --exclude-unreachable-branches "${needs_kvm[@]}" \
        --txt build-test/coverage.txt --json-summary build-test/coverage.json build-test/coverage || return 1
    cat build-test/coverage.txt
    tools/check-coverage build-test/coverage.json tools/coverage-floor
}

# arm64 libraries for the program and the tests, from the archive that this machine uses; kept in the cache.
arm64_prepare()
{
    local codename libraries
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    cached "arm64-libraries-$codename-5" foreign_unpack arm64 libcmocka0 libcmocka-dev libfdt1 libfdt-dev liburing2 \
        liburing-dev libseccomp2 libseccomp-dev libjansson4 libjansson-dev || return 1
    arm64_sysroot=$CACHED
    libraries=$CACHED/usr/lib/aarch64-linux-gnu
    cat >build-test/aarch64-sysroot.ini.new <<INI
[binaries]
exe_wrapper = ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu', '-E', 'LD_LIBRARY_PATH=$libraries']
[properties]
sys_root = '$CACHED'
pkg_config_libdir = '$libraries/pkgconfig'
[built-in options]
c_args = ['-isystem', '$CACHED/usr/include']
c_link_args = ['-L$libraries']
INI
    # Same content, same file: the build folder is kept.
    cmp -s build-test/aarch64-sysroot.ini.new build-test/aarch64-sysroot.ini ||
        { rm -rf build-test/arm64 && cp build-test/aarch64-sysroot.ini.new build-test/aarch64-sysroot.ini; }
}

job_cross()
{
    if [ "$(uname -m)" = aarch64 ]; then
        record skip cross "arm64" "this machine is arm64: part unit has shown it"
        return
    fi
    check cross "arm64 libraries can be had" arm64_prepare || return
    build cross arm64 && suites cross arm64 unit layers
}

job_layers()
{
    check layers "include check" tools/check-layers
    tap layers planted tools/checks_test.py
    # The archives as they are released, and as they are tested.
    suites_release layers
}

suites_release()
{
    rm -f "build/meson-logs/$1.json"
    meson test -C build --no-rebuild --print-errorlogs --logbase "$1" --suite "$1" >"$logs/release-$1.log" 2>&1
    collect release "$1" "build/meson-logs/$1.json" "$logs/release-$1.log"
}

# What a request costs, in instructions of the release's code.
job_instructions()
{
    local folder=build-test/instructions/bench
    # A compiler's options that somebody has exported would make it other code.
    unset CFLAGS CPPFLAGS LDFLAGS
    build instructions instructions || return
    check instructions "a request costs what is recorded" bench/count-instructions "$folder/instructions"
    tap instructions planted bench/count_instructions_test.py "$folder/instructions" "$folder/instructions_planted"
}

job_lint()
{
    local name
    for name in spdx words links lengths; do
        check lint "$name" "tools/check-$name"
    done
    check lint "form of the C sources" tools/check-format
    check lint "spelling" tools/check-spelling
    check lint "shell scripts" tools/check-shell
    check lint "manual pages" tools/check-man
    check lint "cppcheck" tools/check-cppcheck
    if build_quietly clang >"$logs/lint-build.log" 2>&1; then
        check lint "clang-tidy" tools/check-tidy build-test/clang
    else
        record fail lint "clang-tidy" "nothing to look at: the clang build failed, see $logs/lint-build.log"
    fi
}

job_fuzzing()
{
    local seconds=20 program
    [ "$BACKPLANE_LONG" = no ] || seconds=60
    build fuzz fuzz || return
    for program in build-test/fuzz/fuzz/*_fuzz; do
        [ -x "$program" ] || continue
        while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
            wait -n
        done
        fuzz_one "$program" "$seconds" "$(basename "$program" _fuzz)" &
    done
    wait
}

fuzz_one()
{
    local found=build-test/fuzz-found/$3 corpus=build-test/fuzz-corpus/$3
    mkdir -p "$corpus" "$found"
    check fuzz "$3 for $2 s" "$1" -max_total_time="$2" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$found/" "$corpus" "fuzz/corpus/$3"
}

job_install()
{
    build install gcc && tap install run tests/install/run build "$root/build-test/gcc/tests/install/drive_echo"
}

job_guest()
{
    local options=()
    [ "$BACKPLANE_LONG" = no ] || options=(--long)
    tap guest run tests/guest/run.py "${options[@]}"
}

# Linux in `backplane vm`, for each architecture that the program can be built for here.
job_kvm()
{
    local options=() architectures=(arm64)
    if [ "$(uname -m)" = aarch64 ]; then
        options+=(--program "arm64=$root/build/backplane" --bed arm64 --bed arm64-gicv2)
        record skip kvm "x86-64 guests" "this machine has no compiler that builds the program for x86-64"
    else
        check kvm "arm64 libraries can be had" arm64_prepare || return
        build kvm arm64 || return
        options+=(--program "x86-64=$root/build/backplane" --sysroot "$arm64_sysroot"
            --program "arm64=$root/build-test/arm64/src/programs/backplane")
        architectures+=(x86-64)
    fi
    check kvm "the small kernels can be had" tools/guest/kernel.py "${architectures[@]}" || return
    tap kvm run tests/kvm/run.py "${options[@]}"
}

# ---- the run

# jobs_of PART: the jobs that a part needs.
jobs_of()
{
    case $1 in
    unit | conformance | cli | idle | smoke) echo gcc ;;
    fuzz) if [ "${fuzz_named:-no}" = yes ] || [ "$BACKPLANE_LONG" = yes ]; then echo gcc fuzzing; else echo gcc; fi ;;
    sanitizers) echo asan tsan ;;
    *) echo "$1" ;;
    esac
}

packages_of()
{
    case $1 in
    unit | conformance | cli | idle | layers | install) echo build test ;;
    smoke) if [ "$(uname -m)" = x86_64 ]; then echo build test smoke; else echo build test; fi ;;
    clang | sanitizers | fuzz) echo build test ;;
    coverage) echo build test cover ;;
    instructions) echo build count ;;
    cross) [ "$(uname -m)" = aarch64 ] || echo build test cross ;;
    lint) echo build test lint ;;
    guest) echo build test guest ;;
    kvm) if [ "$(uname -m)" = aarch64 ]; then echo build kernel kvm; else echo build test cross kernel kvm; fi ;;
    esac
}

run_job()
{
    job=$1
    local begin=$SECONDS
    "job_$job"
    echo "$((SECONDS - begin))" >"$state/$job.seconds"
}

# Shows the output of finished jobs, whole, in the order they finish.
finish_job()
{
    local name=$1
    if [ ! -f "$state/$name.seconds" ]; then
        job=$name record fail "$name" "runs to its end" "it ended early, see $logs/job-$name.log"
    fi
    cat "$logs/job-$name.log"
    printf '%-12s done in %s s\n' "$name" "$(cat "$state/$name.seconds" 2>/dev/null || echo '?')"
}

run_jobs()
{
    local name pid
    local -A running=()
    for name in "$@"; do
        while [ ${#running[@]} -ge $jobs_at_once ]; do
            wait_for_one
        done
        run_job "$name" >"$logs/job-$name.log" 2>&1 9>&- &
        running[$!]=$name
    done
    while [ ${#running[@]} -gt 0 ]; do
        wait_for_one
    done
}

wait_for_one()
{
    wait -n -p pid "${!running[@]}"
    finish_job "${running[$pid]}"
    unset "running[$pid]"
}

run_parts()
{
    chosen=("$@")
    local part group each groups=() pool=() alone=() needs_release=no
    for part in "${chosen[@]}"; do
        for group in $(packages_of "$part"); do
            [[ " ${groups[*]-} " == *" $group "* ]] || groups+=("$group")
        done
        for each in $(jobs_of "$part"); do
            case $each in
            guest | kvm) [[ " ${alone[*]-} " == *" $each "* ]] || alone+=("$each") ;;
            *) [[ " ${pool[*]-} " == *" $each "* ]] || pool+=("$each") ;;
            esac
        done
        case $part in
        layers | install | guest | kvm) needs_release=yes ;;
        esac
    done
    rm -rf "$logs" "$results" "$state"
    mkdir -p "$logs" "$results" "$state"

    job=0-setup
    if ! need_packages "${groups[@]}"; then
        record fail set-up "packages are installed"
        tools_sum
        return 1
    fi
    if [ $needs_release = yes ]; then
        echo "building build/backplane"
        check release "script/build leaves build/backplane" "$root/script/build"
    fi
    run_jobs "${pool[@]}"
    run_jobs "${alone[@]}"
    echo "all done in $SECONDS s"
    tools_sum
}

# Without python3 nothing can be summed up, and then nothing has run either.
tools_sum()
{
    if command -v python3 >/dev/null 2>&1; then
        tools/test-results sum "$results"/*.tsv
    else
        echo "0 passed, 1 failed"
        return 1
    fi
}
