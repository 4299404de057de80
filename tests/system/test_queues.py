#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Where the threads of queues run, and what they do when nothing is left to do.

  test_queues.py PROGRAM
"""
import os
import struct

from daemon import Case, Control, main, wait_for
from frontend import Guest


def queue_threads(pid):
    """The processors of each queue's thread, by the queue's number."""
    found = {}
    for thread in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{thread}/comm', encoding='utf-8') as name:
            kind, _, number = name.read().strip().partition('-')
        if kind == 'queue':
            found[int(number)] = os.sched_getaffinity(int(thread))
    return found


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
