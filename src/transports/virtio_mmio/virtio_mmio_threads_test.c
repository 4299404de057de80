/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Queues interrupt from their own threads while the driver acknowledges: no event is lost. */
#include <pthread.h>

#include "transports/virtio_mmio/virtio_mmio_test_rig.h"

#define THREADS 2 /* one a queue */
#define EVENTS 20000

struct sender {
    struct rig *rig;
    unsigned index;
    _Atomic unsigned *left;     /* events that the driver has not seen: raised before each */
    _Atomic unsigned *finished; /* threads */
};

static _Atomic unsigned pulses;

static void pulse(struct irq_line *line)
{
    (void)line;
    atomic_fetch_add(&pulses, 1);
}

static void set(struct irq_line *line, bool raised)
{
    (void)line;
    (void)raised;
}

static void *send(void *argument)
{
    struct sender *sender = argument;

    for (unsigned i = 0; i < EVENTS; i++) {
        atomic_fetch_add(sender->left, 1);
        fake_backend_notify(&sender->rig->fake, sender->index);
    }
    atomic_fetch_add(sender->finished, 1);
    return NULL;
}

/* As a driver does: what is acknowledged before the queues are looked at cannot hide a later event. */
static void every_event_of_a_queues_thread_is_seen(void **state)
{
    static const struct irq_line_class class = {.set = set, .pulse = pulse};
    struct rig *rig = *state;
    struct sender senders[THREADS];
    pthread_t threads[THREADS];
    _Atomic unsigned left = 0, finished = 0;

    rig->owner.line.class = &class;
    rig_work(rig, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        senders[i] = (struct sender){.rig = rig, .index = i, .left = &left, .finished = &finished};
        assert_int_equal(pthread_create(&threads[i], NULL, send, &senders[i]), 0);
    }
    bool last = false;
    while (!last) {
        last = atomic_load(&finished) == THREADS; /* then one more look */
        if (transport_driver_interrupts(&rig->driver) != 0)
            atomic_store(&left, 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&left), 0);
    assert_int_equal(atomic_load(&pulses), THREADS * EVENTS);
    assert_int_equal(rig->mmio.control.interrupts_total, THREADS * EVENTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_event_of_a_queues_thread_is_seen, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
