# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The results as text for a terminal."""
import verdicts


def columns(rows, right):
    """@rows of strings under each other; the columns whose number is in @right are aligned to the right."""
    if not rows:
        return []
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return ['  ' + '  '.join(cell.rjust(width) if at in right else cell.ljust(width)
                             for at, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows]


def ratio(value, base):
    return f'{value / base:.2f}' if value is not None and base else '-'


def figure(row, key, scale=1.0, form='.1f'):
    value = row.get(key)
    return '-' if value is None else format(value / scale, form)


def spread(row, key):
    value = row.get(f'{key}_spread')
    return '-' if value is None else f'{value:.0%}'


def marks(row):
    return f'! {row["marked"]}/{row["rounds"]}' if row.get('marked') else ''


HEAD = ['', 'k IOPS', 'of peer', 'of ceiling', 'of fio', 'spread', 'CPU ns/req', 'of peer', 'spread', 'p50 us',
        'p99 us', 'req/kick', '']


def bases(variant):
    """The rows that the others are compared with: the fastest peer, and fio on one processor."""
    return verdicts.best(variant['rows'], 'peer'), verdicts.find(variant['rows'], 'fio')


def row_cells(row, variant):
    peer, fio = bases(variant)
    ceiling = variant['ceilings'].get(row['ring'], {}) if row['kind'] != 'limit' else {}
    return ['  ' + row['name'], figure(row, 'iops', 1e3), ratio(row['iops'], peer and peer['iops']),
            ratio(row['iops'], ceiling.get('iops')), ratio(row['iops'], fio and fio['iops']), spread(row, 'iops'),
            figure(row, 'cpu_ns'), ratio(row.get('cpu_ns'), peer and peer.get('cpu_ns')), spread(row, 'cpu_ns'),
            figure(row, 'latency_ns_p50', 1e3), figure(row, 'latency_ns_p99', 1e3),
            figure(row, 'requests_per_kick'), marks(row)]


def variant_cells(variant):
    cells = [[variant['name']] + [''] * (len(HEAD) - 1)]
    for ring, row in variant['ceilings'].items():
        name = f'  the driver\'s ceiling, {ring}' + (f', {row["batch"]} at a time' if row.get('batch', 1) > 1 else '')
        cells.append([name, figure(row, 'iops', 1e3), '', '', '', spread(row, 'iops'), figure(row, 'cpu_ns'), '',
                      spread(row, 'cpu_ns'), figure(row, 'latency_ns_p50', 1e3), figure(row, 'latency_ns_p99', 1e3), '',
                      marks(row)])
    return cells + [row_cells(row, variant) for row in variant['rows'] if row.get('iops') is not None]


def notes(variant):
    found = [f'{row["name"]}: {row.get("lacks") or row.get("failed")}' for row in variant['rows']
             if row.get('lacks') or row.get('failed')]
    if variant.get('note'):
        found.append(variant['note'])
    peer, _ = bases(variant)
    if peer:
        found.append(f'"of peer" is of {peer["name"]}')
    return found


def table(one):
    """Lines of one table, with what has to be said about it."""
    cells, said = [HEAD], {}
    for variant in one['variants']:
        cells += variant_cells(variant)
        for note in notes(variant):
            said.setdefault(note, []).append(variant['name'])
    # A column that nobody has anything in only takes room.
    kept = [at for at in range(len(HEAD)) if at == 0 or any(row[at] not in ('', '-') for row in cells[1:])]
    cells = [[row[at] for at in kept] for row in cells]
    lines = ['', one['title'], *columns(cells, range(1, len(kept)))]
    for note, where in said.items():
        lines.append(f'  {note}' + ('' if len(where) == len(one['variants']) else f' ({"; ".join(where)})'))
    rows = [row for variant in one['variants'] for row in (*variant['rows'], *variant['ceilings'].values())]
    marked, rounds = sum(row.get('marked', 0) for row in rows), sum(row.get('rounds', 0) for row in rows)
    if marked:
        lines.append(f'  ! the machine was too busy in {marked} of {rounds} measurements of this table')
    return lines


def virtqueue(rows, workloads):
    peer = rows.get('rust-vmm')
    cells = [['', *(text for title in workloads.values() for text in (title, 'ratio', 'spread')), '']]
    for name, row in rows.items():
        cells.append([name, *(text for key in workloads for text in (
            figure(row, key, 1e3, '.3f'), ratio(row.get(key), peer and peer.get(key)), spread(row, key))), marks(row)])
    return ['', 'Virtqueue alone, microseconds for 128', *columns(cells, range(1, len(cells[0])))]


def idle(found):
    lines = ['', 'Idle']
    for name, seen in found['wakes'].items():
        lines.append(f'  {name}: {seen["wakes"]} wakes and {seen["cpu_ms"]:.2f} ms of processor time in '
                     f'{seen["seconds"]} s after a load, the front end still connected')
    for name, kib in found['alone_kib'].items():
        lines.append(f'  {name}: {kib} KiB of private memory alone')
    for name, one in found['crowd'].items():
        lines.append(f'  {name}: {one["median"]:.0f} KiB of private memory, at most {one["max"]}, '
                     f'one of {one["count"]} among {found["daemons"]} daemons')
    return lines


def instructions(counts):
    cells = [['queues', 'instructions a request']]
    cells += [[str(queues), f'{counts[queues]:.1f}'] for queues in sorted(counts, key=int)]
    return ['', 'Instructions a request (callgrind)', *columns(cells, (0, 1))]


def curves(variants):
    names = list(dict.fromkeys(row['name'] for variant in variants for row in verdicts.measured(variant['rows'])))
    cells = [['pause', *(text for name in names for text in (name, '', ''))],
             ['us', *(text for _ in names for text in ('p50 us', 'CPU us', 'CPU %'))]]
    for variant in variants:
        line = [f'{variant["gap_ns"] / 1000:g}']
        for name in names:
            row = verdicts.find(variant['rows'], name) or {}
            share = row['cpu_ns'] * row['iops'] / 1e9 if row else None
            line += [figure(row, 'latency_ns_p50', 1e3), figure(row, 'cpu_ns', 1e3, '.2f'),
                     '-' if share is None else f'{share:.1%}']
        cells.append(line)
    return ['', 'Null disk, depth 1, with a pause between requests', *columns(cells, range(len(cells[0])))]


def summary(lines):
    cells = [['what', 'target', 'measured', 'verdict']]
    cells += [[one['claim'], one['target'], one['measured'], one['verdict'] + (' !' if one['marked'] else '')]
              for one in lines]
    text = ['', 'What was to be reached', *columns(cells, ())]
    if any(one['marked'] for one in lines):
        text.append('  ! measured on a machine that was too busy: not to be believed, either way')
    return text
