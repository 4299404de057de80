# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What was to be reached, and whether this run has reached it: pure, from the results alone.

A line is not measured when one of its rows is missing; it is never reached then. A line whose rows were measured on a
busy machine says so.
"""
REACHED, NOT_REACHED, NOT_MEASURED = 'reached', 'not reached', 'not measured'

CPU_PART_MAX = 0.25
POLLED_IOPS_MIN = 10e6
CEILING_PART_MIN = 0.9
DEPTH_1_TIMES_MIN = 3.0
TMPFS_PART_MIN = 0.95
DISK_PART_MIN = 0.97
RUST_VMM_PART_MAX = 0.5
INSTRUCTIONS_GROWTH_MAX = 0.02
PRIVATE_KIB_MAX = 1024
IDLE_S = 10
DAEMONS = 1000


def table(results, key):
    return next((one for one in results.get('tables', []) if one['key'] == key), {'variants': []})


def variant(results, key, name):
    return next((one for one in table(results, key)['variants'] if one['name'] == name), {'rows': [], 'ceilings': {}})


def measured(rows, key='iops'):
    """Those with a figure; one of nothing is none to divide by."""
    return [row for row in rows if row.get(key)]


def find(rows, name):
    return next((row for row in measured(rows) if row['name'] == name), None)


def best(rows, kind, key='iops'):
    """The row of @kind with the most IOPS, or the least of anything else."""
    some = [row for row in measured(rows, key) if row['kind'] == kind]
    return (max if key == 'iops' else min)(some, key=lambda row: row[key], default=None)


def line(claim, target, text=None, is_reached=None, rows=()):
    if is_reached is None:
        return {'claim': claim, 'target': target, 'measured': text or '-', 'verdict': NOT_MEASURED, 'marked': False}
    return {'claim': claim, 'target': target, 'measured': text, 'verdict': REACHED if is_reached else NOT_REACHED,
            'marked': any(row.get('marked') for row in rows)}


def null_event(results):
    claim, target = 'null, depth 32, event-driven: CPU a request', f'at most {CPU_PART_MAX:g} of qemu-storage-daemon\'s'
    rows = variant(results, 'null', 'depth 32, driver sleeps')['rows']
    peer = best(rows, 'peer', 'cpu_ns')
    ours = find(rows, 'backplane --polling=off') or find(rows, 'backplane')
    if not peer or not ours:
        return line(claim, target)
    part = ours['cpu_ns'] / peer['cpu_ns']
    return line(claim, target, f'{part:.2f} ({ours["cpu_ns"]:.0f} of {peer["cpu_ns"]:.0f} ns; {ours["name"]})',
                part <= CPU_PART_MAX, (ours, peer))


def null_polled(results):
    claim = 'null, depth 32, polled: IOPS on one processor'
    target = f'at least {POLLED_IOPS_MIN / 1e6:g} M, or {CEILING_PART_MIN:g} of the driver\'s ceiling'
    where = variant(results, 'null', 'depth 32, driver polls')
    rows = where['rows']
    ours = [row for row in measured(rows) if row['name'].startswith('backplane --polling=always')]
    # Without the option, what there is counts.
    ours = ours or [row for row in measured(rows) if row['kind'] == 'ours']
    if not ours:
        return line(claim, target)

    # Of both rings' ceilings the higher: a copy loop that a device overtakes was none.
    ceiling = max(where['ceilings'].values(), key=lambda row: row['iops'], default=None)
    top = max(ours, key=lambda row: row['iops'])
    part = top['iops'] / ceiling['iops'] if ceiling else 0.0
    text = f'{top["iops"] / 1e6:.2f} M, {part:.2f} of the ceiling ({top["name"]})'
    return line(claim, target, text, top['iops'] >= POLLED_IOPS_MIN or part >= CEILING_PART_MIN, (top, ceiling or {}))


def null_depth_1(results, driver):
    claim = f'null, depth 1, default mode, driver {driver}: IOPS'
    target = f'at least {DEPTH_1_TIMES_MIN:g} times qemu-storage-daemon\'s'
    rows = variant(results, 'null', f'depth 1, driver {driver}')['rows']
    ours, peer = find(rows, 'backplane'), best(rows, 'peer')
    if not ours or not peer:
        return line(claim, target)
    times = ours['iops'] / peer['iops']
    return line(claim, target, f'{times:.2f} times ({ours["iops"] / 1e3:.0f} k of {peer["iops"] / 1e3:.0f} k)',
                times >= DEPTH_1_TIMES_MIN, (ours, peer))


def file_of(results, key, what, part_min, variant_name, fio):
    claim, target = f'{what}: IOPS', f'at least {part_min:g} of {fio}\'s'
    rows = variant(results, key, variant_name)['rows']
    ours = best([row for row in rows if row['ring'] == 'split'], 'ours')  # what drivers use unless they are told
    limit = find(rows, fio)
    if not ours or not limit:
        return line(claim, target)
    part = ours['iops'] / limit['iops']
    return line(claim, target, f'{part:.2f} ({ours["iops"] / 1e3:.0f} k of {limit["iops"] / 1e3:.0f} k; '
                f'{ours["name"]})', part >= part_min, (ours, limit))


def virtqueue(results, workload, title):
    claim, target = f'virtqueue alone, {title}: time', f'at most {RUST_VMM_PART_MAX:g} of rust-vmm\'s'
    rows = results.get('virtqueue') or {}
    ours, peer = rows.get('backplane, split', {}), rows.get('rust-vmm', {})
    if workload not in ours or workload not in peer:
        return line(claim, target)
    part = ours[workload] / peer[workload]
    text = f'{part:.2f} split'
    packed = rows.get('backplane, packed', {}).get(workload)
    if packed is not None:
        text += f', {packed / peer[workload]:.2f} packed'
    return line(claim, target, text, part <= RUST_VMM_PART_MAX, (ours, peer))


def idle_wakes(results):
    claim, target = 'idle after load: wakes', f'0 in {IDLE_S} s'
    seen = (results.get('idle') or {}).get('wakes', {}).get('backplane')
    if not seen:
        return line(claim, target)
    text = f'{seen["wakes"]} in {seen["seconds"]} s'
    if seen['wakes'] == 0 and seen['seconds'] < IDLE_S:
        return line(claim, target, text + ', too short a watch')
    return line(claim, target, text, seen['wakes'] == 0)


def instructions(results):
    claim = 'instructions a request with 1, 16 and 64 queues'
    target = f'the same within {INSTRUCTIONS_GROWTH_MAX:.0%}'
    counts = results.get('instructions') or {}
    if len(counts) < 3:
        return line(claim, target)
    values = [counts[queues] for queues in sorted(counts, key=int)]
    return line(claim, target, f'{" / ".join(f"{value:.1f}" for value in values)}, apart by '
                f'{max(values) / min(values) - 1:.1%}', max(values) <= min(values) * (1 + INSTRUCTIONS_GROWTH_MAX))


def memory_alone(results):
    claim, target = 'private memory of an idle daemon', f'at most {PRIVATE_KIB_MAX} KiB'
    alone = (results.get('idle') or {}).get('alone_kib') or {}
    if not alone:
        return line(claim, target)
    return line(claim, target, ', '.join(f'{name} {kib} KiB' for name, kib in alone.items()),
                max(alone.values()) <= PRIVATE_KIB_MAX)


def memory_crowd(results):
    claim = f'private memory of each of {DAEMONS} idle daemons'
    target = f'at most {PRIVATE_KIB_MAX} KiB'
    crowd = (results.get('idle') or {}).get('crowd') or {}
    if not crowd:
        return line(claim, target)
    count = sum(one['count'] for one in crowd.values())
    text = ', '.join(f'{name} at most {one["max"]} KiB' for name, one in crowd.items())
    if count < DAEMONS:
        return line(claim, target, f'{text}, with {count}')
    return line(claim, target, text, max(one['max'] for one in crowd.values()) <= PRIVATE_KIB_MAX)


def all_lines(results, workloads):
    lines = [null_event(results), null_polled(results)]
    lines += [null_depth_1(results, driver) for driver in ('sleeps', 'polls')]
    lines += [file_of(results, 'tmpfs', 'tmpfs, depth 32, random reads', TMPFS_PART_MIN, 'random reads', fio)
              for fio in ('fio', 'fio on both processors')]
    lines.append(file_of(results, 'disk', 'local disk, O_DIRECT, depth 32, random reads', DISK_PART_MIN,
                         'random reads', 'fio'))
    lines += [virtqueue(results, workload, title) for workload, title in workloads.items()]
    lines += [idle_wakes(results), instructions(results), memory_alone(results), memory_crowd(results)]
    return lines
