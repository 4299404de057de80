#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Where the threads of queues run, and what they do when nothing is left to do.

  test_queues.py PROGRAM
"""
import os
import struct

from daemon import Case, Control, main, wait_for
from frontend import Guest


def named_threads(pid):
    """The name and the processors of each thread."""
    found = []
    for thread in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{thread}/comm', encoding='utf-8') as name:
            found.append((name.read().strip(), os.sched_getaffinity(int(thread))))
    return found


def queue_threads(pid):
    """The processors of each queue's thread, by the queue's number."""
    return {int(name.removeprefix('queue-')): processors for name, processors in named_threads(pid)
            if name.startswith('queue-')}


def disk_workers(pid):
    """The processors of each thread that calls the disk for a queue."""
    return [processors for name, processors in named_threads(pid) if name == 'disk-worker']


class Queues(Case):
    """Options for the threads of queues."""

    def serve(self, *command):
        daemon = self.start_listening(*command, '--control-path', self.path('control'))
        guest = Guest(self.path('socket'))
        self.addCleanup(guest.leave)
        guest.start()
        return daemon, guest

    def queue(self, index=0):
        with Control(self.path('control')) as control:
            answer = control.ask(command='stats')
            return answer, answer['queues'][index]

    def threads_of(self, *options):
        """A disk whose front end uses three queues."""
        daemon, guest = self.serve('blk', '--blk-null=1M', '--queues=3', *options)
        for index in (1, 2):
            guest.say(Guest.SET_VRING_KICK, struct.pack('=Q', index), [guest.kick])
        guest.read_sector()
        wait_for(lambda: len(queue_threads(daemon.pid)) == 3, 'a thread for each queue')
        return queue_threads(daemon.pid)

    def test_threads_run_where_the_list_says_round_about(self):
        allowed = sorted(os.sched_getaffinity(0))
        places = [allowed[-1], allowed[0]] if len(allowed) > 1 else allowed
        threads = self.threads_of('--cpu-affinity=' + ','.join(str(place) for place in places))
        self.assertEqual(threads, {i: {places[i % len(places)]} for i in range(3)})

    def test_threads_that_call_the_disk_run_anywhere_and_do_not_wait_for_the_queue(self):
        allowed = os.sched_getaffinity(0)
        for polling in ('adaptive', 'always'):
            with self.subTest(polling):
                daemon, guest = self.serve('blk', '--blk-file=' + self.image(), '--engine=plain',
                                           f'--cpu-affinity={min(allowed)}', f'--polling={polling}')
                guest.read_sector()
                wait_for(lambda pid=daemon.pid: disk_workers(pid), 'a thread that calls the disk')
                workers, queues = disk_workers(daemon.pid), queue_threads(daemon.pid)
                daemon.terminate()
                self.ends(daemon)
                self.assertEqual(workers, [allowed] * len(workers))
                self.assertEqual(queues, {0: {min(allowed)}})

    def test_threads_run_anywhere_without_a_list(self):
        allowed = os.sched_getaffinity(0)
        self.assertEqual(self.threads_of(), {i: allowed for i in range(3)})

    def test_statistics_tell_what_a_queue_does_when_nothing_is_left(self):
        for mode in ('adaptive', 'off', 'always'):
            with self.subTest(mode):
                daemon, guest = self.serve('rng', '--polling=' + mode)
                for _ in range(200):
                    guest.entropy()
                answer, queue = self.queue()
                self.assertEqual(answer['polling'], mode)
                self.assertEqual(queue['popped'], 200)
                self.assertLessEqual(queue['looks_paid'], queue['looks'])
                if mode == 'off':
                    self.assertEqual((queue['looks'], queue['looked_ns'], queue['sleep_price_ns']), (0, 0, 0))
                if mode == 'always':
                    self.assertGreater(queue['looks'], 0)
                    self.assertGreater(queue['looked_ns'], 0)
                else:
                    self.assertGreater(queue['sleeps'], 0)
                daemon.terminate()
                self.ends(daemon)


if __name__ == '__main__':
    main(__name__)
