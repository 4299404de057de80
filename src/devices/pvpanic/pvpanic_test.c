/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "devices/pvpanic/pvpanic.h"
#include "chip_rig.h"

struct world {
    struct pvpanic_port port;
    unsigned calls, events;
    struct pvpanic pvpanic;
};

static void note_event(struct pvpanic_port *port, unsigned events)
{
    struct world *world = container_of(port, struct world, port);

    world->calls++;
    world->events = events;
}

static int setup(void **state)
{
    static const struct pvpanic_port_class class = {.event = note_event};
    static struct world world;

    world = (struct world){.port.class = &class};
    pvpanic_init(&world.pvpanic, &world.port);
    *state = &world;
    return 0;
}

static void reads_as_the_events_that_it_knows(void **state)
{
    struct world *world = *state;

    assert_int_equal(chip_read(&world->pvpanic.device, 0, 1), 0x07);
    assert_int_equal(world->calls, 0);
}

static void tells_each_event_as_it_is_written(void **state)
{
    struct world *world = *state;

    for (unsigned value = 1; value < 8; value++) {
        chip_write(&world->pvpanic.device, 0, 1, value);
        assert_int_equal(world->calls, value);
        assert_int_equal(world->events, value);
    }
}

static void drops_events_that_it_does_not_know(void **state)
{
    struct world *world = *state;

    chip_write(&world->pvpanic.device, 0, 1, 0xf8);
    chip_write(&world->pvpanic.device, 0, 1, 0);
    assert_int_equal(world->calls, 0);
    chip_write(&world->pvpanic.device, 0, 1, 0xf9);
    assert_int_equal(world->calls, 1);
    assert_int_equal(world->events, PVPANIC_PANICKED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(reads_as_the_events_that_it_knows),
        TEST(tells_each_event_as_it_is_written),
        TEST(drops_events_that_it_does_not_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
