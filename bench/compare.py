#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Null disks side by side: Backplane's and qemu-storage-daemon's, with one driver, in one run, round about.

Nothing here is a test: machines are shared and noisy, so what counts are ratios within one run, their spread over the
rounds, and a word about how quiet the machine was. Called by script/bench.
"""
import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

DISK_BYTES = 1 << 30
WORKS = [  # name, depth, wait, does the driver have a processor of its own
    ("4 KiB reads, depth 32, driver on another processor", 32, "event", True),
    ("4 KiB reads, depth 32, driver on the same processor", 32, "event", False),
    ("4 KiB reads, depth 1, driver on another processor", 1, "event", True),
    ("4 KiB reads, depth 32, driver on another processor and polling", 32, "poll", True),
]
# Processor time of others, as a part of what the machine has, past which figures are not to be believed.
OTHERS_MAX = 0.10
START_TIMEOUT_S = 30
IDLERS = [  # name, command and options
    ("backplane rng", ["rng"]),
    ("backplane blk", ["blk", f"--blk-null={DISK_BYTES}"]),
]
IDLE_SETTLE_S = 1
IDLE_S = 5


class Backend:
    """A running back end: its process and socket."""

    def __init__(self, name, command, path):
        self.name = name
        self.path = path
        first = min(os.sched_getaffinity(0))
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                        preexec_fn=lambda: os.sched_setaffinity(0, {first}))
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            probe = socket.socket(socket.AF_UNIX)
            try:
                probe.connect(path)
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise SystemExit(f"bench: {name} does not listen on {path}: {error}")
                time.sleep(0.01)
            finally:
                probe.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()


def machine_busy_s():
    """Processor seconds that the machine has spent on anything, and that another machine took from it."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def measure(driver, backend, depth, wait, seconds, processor):
    """One round: the driver's figures, and how much of the machine others took meanwhile."""
    busy, began = machine_busy_s(), time.monotonic()
    command = [driver, f"--socket-path={backend.path}", f"--pid={backend.process.pid}", f"--depth={depth}",
               f"--seconds={seconds}", f"--wait={wait}"]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=False,
                            preexec_fn=lambda: os.sched_setaffinity(0, {processor}))
    if answer.returncode != 0:
        raise SystemExit(f"bench: the driver failed against {backend.name}")
    result = json.loads(answer.stdout)
    elapsed = time.monotonic() - began
    # The driver warms up for a tenth of the time, which its figures leave out.
    ours = 1.1 * result["requests"] * (result["backend_cpu_ns_per_request"] + result["driver_cpu_ns_per_request"]) / 1e9
    result["others"] = max(0.0, (machine_busy_s() - busy - ours) / (elapsed * os.cpu_count()))
    return result


def spread(values):
    """How far the rounds lie apart, as a part of their median."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle > 0 else 0.0


def summary(rounds):
    cpu = [one["backend_cpu_ns_per_request"] for one in rounds]
    iops = [one["iops"] for one in rounds]
    return {"iops": statistics.median(iops), "iops_spread": spread(iops), "cpu_ns": statistics.median(cpu),
            "cpu_ns_spread": spread(cpu),
            "requests_per_kick": statistics.median(o["requests_per_kick"] for o in rounds)}


def table(name, rows, reference):
    print(f"\n{name}")
    print(f"  {'back end':22} {'k IOPS':>9} {'ratio':>6} {'spread':>7}   {'CPU ns/req':>10} {'ratio':>6} {'spread':>7}")
    for backend, row in rows.items():
        base = rows[reference]
        print(f"  {backend:22} {row['iops'] / 1e3:9.1f} {row['iops'] / base['iops']:6.2f} {row['iops_spread']:6.0%}"
              f"   {row['cpu_ns']:10.1f} {row['cpu_ns'] / base['cpu_ns']:6.2f} {row['cpu_ns_spread']:6.0%}")


def start_backends(arguments, folder):
    backends = [Backend("backplane", [arguments.backplane, "blk", f"--blk-null={DISK_BYTES}",
                                      f"--socket-path={folder}/backplane"], f"{folder}/backplane")]
    peer = shutil.which("qemu-storage-daemon")
    if peer is None:
        print("bench: qemu-storage-daemon is not installed; no comparison", file=sys.stderr)
    else:
        path = f"{folder}/qemu"
        backends.append(Backend("qemu-storage-daemon", [
            peer, "--blockdev", f"null-co,node-name=null,size={DISK_BYTES},read-zeroes=off", "--export",
            f"vhost-user-blk,id=null,node-name=null,writable=on,addr.type=unix,addr.path={path}"], path))
    return backends


def compare(arguments, backends):
    """All works, each in so many rounds with the back ends taking turns."""
    results, others = {}, []
    processors = sorted(os.sched_getaffinity(0))
    for name, depth, wait, apart in WORKS:
        if apart and len(processors) < 2:
            print(f"bench: left out for want of a second processor: {name}", file=sys.stderr)
            continue
        processor = processors[1] if apart else processors[0]
        rounds = {backend.name: [] for backend in backends}
        for turn in range(arguments.rounds):
            order = backends if turn % 2 == 0 else backends[::-1]
            for backend in order:
                result = measure(arguments.driver, backend, depth, wait, arguments.seconds, processor)
                others.append(result["others"])
                rounds[backend.name].append(result)
        results[name] = {backend: summary(values) for backend, values in rounds.items()}
    return results, max(others)


def own_kib(pid):
    """Memory that no other process shares, in KiB."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(("Private_Clean:", "Private_Dirty:")))


def wakes(pid):
    """How often its threads have gone to sleep: each wake ends in that."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches:"))
    return total


def idle(arguments, folder):
    """What a daemon that nobody uses costs: its own memory, and wakes in a few seconds."""
    results = {}
    for name, options in IDLERS:
        path = f"{folder}/idle"
        backend = Backend(name, [arguments.backplane, *options, f"--socket-path={path}"], path)
        try:
            time.sleep(IDLE_SETTLE_S)  # the probe that found it listening has been seen off by then
            before = wakes(backend.process.pid)
            time.sleep(IDLE_S)
            results[name] = {"own_kib": own_kib(backend.process.pid), "wakes": wakes(backend.process.pid) - before}
        finally:
            backend.stop()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--driver", required=True)
    parser.add_argument("--backplane", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1, help="of each round")
    parser.add_argument("--json", metavar="FILE", help="write all figures there as well")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")

    with tempfile.TemporaryDirectory(prefix="backplane-bench-") as folder:
        backends = start_backends(arguments, folder)
        try:
            results, others = compare(arguments, backends)
        finally:
            for backend in backends:
                backend.stop()
        idlers = idle(arguments, folder)
    for name, rows in results.items():
        table(name, rows, backends[-1].name)
    print(f"\nidle, over {IDLE_S} s")
    for name, figures in idlers.items():
        print(f"  {name:22} {figures['own_kib']:6} KiB of its own {figures['wakes']:4} wakes")
    print(f"\nmedians of {arguments.rounds} rounds of {arguments.seconds} s; ratios to {backends[-1].name}; "
          f"others took at most {others:.0%} of the machine")
    if others > OTHERS_MAX:
        print("the machine was too busy for figures to be believed: run this again on a quieter one")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"others": others, "works": results, "idle": idlers}, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
