# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The results as plots: which bars and lines there are, and in which colours; how they are drawn is svg.py's."""
import os

import svg
import verdicts

MODE_COLOURS = {'backplane': 'blue', 'backplane, packed': 'sky', 'backplane --polling=off': 'pink',
                'backplane --polling=always': 'black', 'backplane --polling=always, packed': 'black'}
KIND_COLOURS = {'ceiling': 'grey', 'limit': 'green'}
PEER_COLOURS = ('orange', 'vermilion')
WHISKERS = 'Bars: medians. Whiskers: the lowest and the highest round. Each panel has a scale of its own.'
BUSY = 'The machine was too busy in some of these measurements: not to be believed.'


def colour(name, kind, peers):
    if kind == 'peer':
        # By daemon, so that one has the same colour with another option.
        return PEER_COLOURS[peers.index(name.split(',')[0]) % len(PEER_COLOURS)]
    return KIND_COLOURS.get(kind) or MODE_COLOURS.get(name, 'blue')


def peers_of(variants):
    return list(dict.fromkeys(row['name'].split(',')[0] for variant in variants for row in variant['rows']
                              if row['kind'] == 'peer'))


def warning(variants):
    """What a plot says of itself when one of its rows is marked."""
    marked = any(row.get('marked') for variant in variants for row in (*variant['rows'], *variant['ceilings'].values()))
    return BUSY if marked else ''


def extremes(row, key):
    values = [one[key] for one in row.get('each', []) if one.get(key) is not None]
    return (min(values), max(values)) if len(values) > 1 else None


def table(one):
    """One SVG of one table, or None when nothing of it was measured."""
    panels = []
    peers = peers_of(one['variants'])
    for variant in one['variants']:
        found = [svg.Bar(f'ceiling, {ring}', (row['iops'], None), 'grey')
                 for ring, row in variant['ceilings'].items()]
        found += [svg.Bar(row['name'], (row['iops'], row.get('cpu_ns')), colour(row['name'], row['kind'], peers),
                          (extremes(row, 'iops'), extremes(row, 'cpu_ns')))
                  for row in verdicts.measured(variant['rows'])]
        if found:
            panels.append({'name': variant['name'], 'bars': found})
    if not panels:
        return None
    return svg.bars(one['title'], ('requests a second (more is better)',
                                   'processor time a request, ns (less is better)'), panels, WHISKERS,
                    warning(one['variants']))


def virtqueue(rows, workloads):
    shades = {'backplane, split': 'blue', 'backplane, packed': 'sky', 'rust-vmm': 'orange'}
    panels = [{'name': title, 'bars': [svg.Bar(name, (row[key],), shades[name]) for name, row in rows.items()
                                       if key in row]} for key, title in workloads.items()]
    panels = [panel for panel in panels if panel['bars']]
    busy = BUSY if any(row.get('marked') for row in rows.values()) else ''
    return svg.bars('Virtqueue alone', ('ns for 128 (less is better)',), panels, warning=busy) if panels else None


def curve(variants, title, y_title, value):
    peers = peers_of(variants)
    names = dict.fromkeys((row['name'], row['kind']) for variant in variants
                          for row in verdicts.measured(variant['rows']))
    series = []
    for name, kind in names:
        points = []
        for variant in variants:
            row = verdicts.find(variant['rows'], name)
            y = value(row) if row else None
            if y is not None and y > 0:
                points.append((variant['gap_ns'] / 1000, y))
        if points:
            shown = name + ' (adaptive)' if name == 'backplane' and len(names) > 2 else name
            series.append(svg.Line(shown, points, colour(name, kind, peers)))
    if not series:
        return None
    return svg.lines(title, 'pause between an answer and the next request, microseconds', y_title, series, 'none',
                     warning(variants))


def latency_us(row):
    value = row.get('latency_ns_p50')
    return value / 1000 if value is not None else None


def cpu_us(row):
    value = row.get('cpu_ns')
    return value / 1000 if value is not None else None


def share_percent(row):
    value = row.get('cpu_ns')
    return value * row['iops'] / 1e7 if value is not None else None


def curves(variants):
    """{file name: SVG} of the sweep over the pause."""
    return {
        'polling-latency.svg': curve(variants, 'Null disk, depth 1: latency', 'median latency, microseconds',
                                     latency_us),
        'polling-cpu.svg': curve(variants, 'Null disk, depth 1: processor time of the back end',
                                 'microseconds a request', cpu_us),
        'polling-share.svg': curve(variants, 'Null disk, depth 1: part of a processor that the back end takes',
                                   'per cent of a processor', share_percent),
    }


def write_all(results, folder, workloads):
    """Writes every plot there is something for, and answers their paths."""
    plots = {f'{one["key"]}.svg': table(one) for one in results['tables']}
    if results.get('virtqueue'):
        plots['virtqueue.svg'] = virtqueue(results['virtqueue'], workloads)
    if results.get('curves'):
        plots.update(curves(results['curves']))
    os.makedirs(folder, exist_ok=True)
    written = []
    for name, content in plots.items():
        if content is not None:
            path = os.path.join(folder, name)
            with open(path, 'w', encoding='utf-8') as file:
                file.write(content)
            written.append(path)
    return written
