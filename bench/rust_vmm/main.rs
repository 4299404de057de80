// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The peer of `virtqueue_bench`: rust-vmm's split queue, with the workloads of its own bench, timed the way ours is.
//!
//! Each workload is laid out by the crate's mock driver, on guest memory of 4 GiB, and a new queue begins at its
//! start. What is timed is walking the available ring down to every descriptor, or adding used entries; what lays the
//! ring out is not. One look at the clock before, one after, and what that costs by itself is taken off. A round is the
//! median of many turns.
//!
//!     rust-vmm-bench [--rounds=15] [--json]

use std::hint::black_box;
use std::process::exit;
use std::time::Instant;

use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{GuestAddress, GuestMemoryMmap};

const RING_SIZE: u16 = 256;
const PER: u16 = 128;
const TURNS: usize = 4000;
const ROUNDS_DEFAULT: usize = 15;
const ROUNDS_MAX: usize = 1000;
const CLOCK_LOOKS: usize = 100_000;

struct Workload {
    name: &'static str,
    chains: u16,
    indirect: bool,
    used: bool,
}

const WORKLOADS: [Workload; 4] = [
    Workload { name: "one_chain", chains: 1, indirect: false, used: false },
    Workload { name: "chains", chains: PER, indirect: false, used: false },
    Workload { name: "indirect", chains: PER, indirect: true, used: false },
    Workload { name: "used", chains: 0, indirect: false, used: true },
];

fn middle<T: PartialOrd + Copy>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("times are numbers"));
    values[values.len() / 2]
}

fn clock_cost_ns() -> f64 {
    let mut sum = 0;
    for _ in 0..CLOCK_LOOKS {
        let before = Instant::now();
        sum += before.elapsed().as_nanos();
    }
    sum as f64 / CLOCK_LOOKS as f64
}

/// A queue in front of the workload's requests, all of them offered.
fn lay_out(memory: &GuestMemoryMmap, workload: &Workload) -> Queue {
    let mut driver = MockSplitQueue::new(memory, RING_SIZE);
    for _ in 0..workload.chains {
        let descriptors = PER / workload.chains;
        if workload.indirect {
            driver.add_indirect_chain(descriptors)
        } else {
            driver.add_chain(descriptors)
        }
        .expect("the ring has room");
    }
    driver.create_queue().expect("a sound queue")
}

#[inline(never)]
fn walk(queue: &mut Queue, memory: &GuestMemoryMmap) -> (u16, u16, u64) {
    let (mut chains, mut descriptors, mut bytes) = (0, 0, 0);
    for chain in queue.iter(memory).expect("a sound ring") {
        chains += 1;
        for descriptor in chain {
            descriptors += 1;
            bytes += u64::from(descriptor.len());
        }
    }
    (chains, descriptors, bytes)
}

#[inline(never)]
fn add_used(queue: &mut Queue, memory: &GuestMemoryMmap) {
    for head in 0..PER {
        queue.add_used(memory, head, 0).expect("a sound ring");
    }
}

/// One time through the ring: the ns of what is measured.
fn turn(memory: &GuestMemoryMmap, workload: &Workload) -> u64 {
    let mut queue = black_box(lay_out(memory, workload));
    if workload.used {
        let before = Instant::now();
        add_used(&mut queue, memory);
        return before.elapsed().as_nanos() as u64;
    }
    let before = Instant::now();
    let seen = black_box(walk(&mut queue, memory));
    let took = before.elapsed().as_nanos() as u64;
    assert_eq!(seen, (workload.chains, PER, u64::from(PER) * 0x1000));
    took
}

fn measure(memory: &GuestMemoryMmap, workload: &Workload, rounds: usize) -> Vec<f64> {
    let clock_ns = clock_cost_ns();
    let mut result = Vec::with_capacity(rounds);
    let mut turns = vec![0u64; TURNS];
    for _ in 0..rounds {
        for took in turns.iter_mut() {
            *took = turn(memory, workload);
        }
        result.push(middle(&mut turns) as f64 - clock_ns);
    }
    result
}

fn usage() -> ! {
    eprintln!("usage: rust-vmm-bench [--rounds={ROUNDS_DEFAULT}] [--json]");
    exit(2)
}

fn main() {
    let (mut json, mut rounds) = (false, ROUNDS_DEFAULT);
    for argument in std::env::args().skip(1) {
        match (argument.as_str(), argument.strip_prefix("--rounds=")) {
            ("--json", _) => json = true,
            (_, Some(number)) => rounds = number.parse().unwrap_or_else(|_| usage()),
            _ => usage(),
        }
    }
    if !(1..=ROUNDS_MAX).contains(&rounds) {
        usage();
    }
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 4 << 30)]).unwrap_or_else(|error| {
        eprintln!("rust-vmm-bench: guest memory: {error}");
        exit(1)
    });

    let mut parts = Vec::new();
    for workload in &WORKLOADS {
        let mut ns = measure(&memory, workload, rounds);
        let median = middle(&mut ns);
        let (min, max) = (ns[0], ns[rounds - 1]);
        if json {
            parts.push(format!(
                "\"{}\":{{\"ns\":{median:.1},\"min\":{min:.1},\"max\":{max:.1},\"spread\":{:.3}}}",
                workload.name,
                (max - min) / median
            ));
        } else {
            println!("{:<10} {median:8.1} ns for {PER}, {min:.1} to {max:.1}", workload.name);
        }
    }
    if json {
        println!(
            "{{\"subject\":\"rust-vmm\",\"ring\":\"split\",\"per\":{PER},\"rounds\":{rounds},\"workloads\":{{{}}}}}",
            parts.join(",")
        );
    }
}
