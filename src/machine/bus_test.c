/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "machine/bus.h"

/* A device that answers what was asked of it. */
struct echo {
    struct bus_device device;
    uint64_t last_offset, last_value;
    unsigned last_size, reads, writes;
    enum bus_result result;
    bool busy;
};

static enum bus_result echo_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    struct echo *echo = container_of(device, struct echo, device);
    echo->last_offset = offset;
    echo->last_size = size;
    echo->reads++;
    *ret_value = UINT64_C(0x8877665544332211) >> (8 * (offset % 8));
    return echo->result;
}

static enum bus_result echo_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct echo *echo = container_of(device, struct echo, device);
    echo->last_offset = offset;
    echo->last_size = size;
    echo->last_value = value;
    echo->writes++;
    return echo->result;
}

static bool echo_busy(const struct bus_device *device)
{
    return ((const struct echo *)(const void *)device)->busy;
}

static const struct bus_device_class echo_class = {.name = "echo", .read = echo_read, .write = echo_write};
static const struct bus_device_class slow_class = {
    .name = "slow", .read = echo_read, .write = echo_write, .busy = echo_busy};

/* A port that knows what is bound where, and refuses on demand. */
#define BINDINGS_MAX 16
struct fake_port {
    struct bus_port port;
    struct {
        uint64_t address, size;
        const void *what;
    } bound[BINDINGS_MAX];
    unsigned count;
    int refuse_after; /* that many calls of map succeed; -1: all */
    bool refuses_doorbells;
    uint64_t refused_address; /* a map there fails; 0: none */
};

static void forget(struct fake_port *port, uint64_t address, const void *what)
{
    for (unsigned i = 0; i < port->count; i++) {
        if (port->bound[i].what == what) {
            assert_int_equal(port->bound[i].address, address);
            port->bound[i] = port->bound[--port->count];
            return;
        }
    }
    fail_msg("it was not bound");
}

static void note(struct fake_port *port, uint64_t address, uint64_t size, const void *what)
{
    for (unsigned i = 0; i < port->count; i++) {
        assert_ptr_not_equal(port->bound[i].what, what);
        /* memory slots must not overlap, not even for a moment */
        assert_true(address + size <= port->bound[i].address ||
                    port->bound[i].address + port->bound[i].size <= address || size == 0 || port->bound[i].size == 0);
    }
    assert_true(port->count < BINDINGS_MAX);
    port->bound[port->count].address = address;
    port->bound[port->count].size = size;
    port->bound[port->count++].what = what;
}

static int port_bind(struct bus_port *port, struct bus *bus, uint64_t address, const struct bus_doorbell *doorbell)
{
    (void)bus;
    struct fake_port *fake = (struct fake_port *)port;
    if (fake->refuses_doorbells)
        return -ENOSPC;
    note(fake, address, 0, doorbell);
    return 0;
}

static void port_unbind(struct bus_port *port, struct bus *bus, uint64_t address, const struct bus_doorbell *doorbell)
{
    (void)bus;
    forget((struct fake_port *)port, address, doorbell);
}

static int port_map(struct bus_port *port, struct bus *bus, uint64_t address, struct bus_memory *memory)
{
    (void)bus;
    struct fake_port *fake = (struct fake_port *)port;
    if (address == fake->refused_address || fake->refuse_after == 0)
        return -ENOMEM;
    fake->refuse_after -= fake->refuse_after > 0;
    note(fake, address, memory->size, memory);
    return 0;
}

static void port_unmap(struct bus_port *port, struct bus *bus, uint64_t address, struct bus_memory *memory)
{
    (void)bus;
    forget((struct fake_port *)port, address, memory);
}

static const struct bus_port_class fake_port_class = {
    .bind = port_bind, .unbind = port_unbind, .map = port_map, .unmap = port_unmap};

static struct bus bus;
static struct fake_port port;
static struct echo a, b, c;

static int set_up(void **state)
{
    (void)state;
    port = (struct fake_port){.port.class = &fake_port_class, .refuse_after = -1};
    bus_init(&bus, "mmio", &port.port);
    a = b = c = (struct echo){.device.class = &echo_class};
    return 0;
}

static uint64_t bound_at(const void *what)
{
    for (unsigned i = 0; i < port.count; i++) {
        if (port.bound[i].what == what)
            return port.bound[i].address;
    }
    return 0;
}

static enum bus_result read_at(uint64_t address, unsigned size, uint64_t *ret_value)
{
    return bus_read(&bus, address, size, ret_value, NULL);
}

static void an_access_reaches_the_device_there_at_its_offset(void **state)
{
    (void)state;
    assert_int_equal(bus_add(&bus, 0x1000, 0x100, &a.device), 0);
    assert_int_equal(bus_add(&bus, 0x1100, 0x100, &b.device), 0);
    uint64_t value;
    struct bus_device *who;
    assert_int_equal(bus_read(&bus, 0x1104, 4, &value, &who), BUS_DONE);
    assert_ptr_equal(who, &b.device);
    assert_int_equal(value, 0x88776655);
    assert_int_equal(b.last_offset, 4);
    assert_int_equal(b.last_size, 4);
    assert_int_equal(bus_write(&bus, 0x10ff, 1, 0xabcd, &who), BUS_DONE);
    assert_ptr_equal(who, &a.device);
    assert_int_equal(a.last_offset, 0xff);
    assert_int_equal(a.last_value, 0xcd); /* cut to the size */
    assert_int_equal(read_at(0x1000, 8, &value), BUS_DONE);
    assert_int_equal(value, 0x8877665544332211);
}

static void where_nobody_is_a_read_gives_ones_and_is_counted(void **state)
{
    (void)state;
    assert_int_equal(bus_add(&bus, 0x1000, 0x100, &a.device), 0);
    static const uint64_t addresses[] = {0, 0xfff, 0x1100, 0x10fd, UINT64_MAX, UINT64_MAX - 3};
    for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
        uint64_t value = 0;
        struct bus_device *who = &a.device;
        assert_int_equal(bus_read(&bus, addresses[i], 4, &value, &who), BUS_NOBODY);
        assert_int_equal(value, 0xffffffff);
        assert_null(who);
        assert_int_equal(bus.nobody_last_address, addresses[i]);
        assert_int_equal(bus_write(&bus, addresses[i], 4, 1, &who), BUS_NOBODY);
    }
    assert_int_equal(a.reads + a.writes, 0);
    assert_int_equal(bus.nobody_total, 2 * ARRAY_SIZE(addresses));
    assert_int_equal(bus.accesses_total, 2 * ARRAY_SIZE(addresses));
}

static void a_device_may_say_that_nobody_is_there(void **state)
{
    (void)state;
    a.result = BUS_NOBODY;
    assert_int_equal(bus_add(&bus, 0x1000, 0x100, &a.device), 0);
    uint64_t value;
    assert_int_equal(read_at(0x1000, 2, &value), BUS_NOBODY);
    assert_int_equal(value, 0xffff);
    assert_int_equal(bus.nobody_total, 1);
}

static void an_access_that_crosses_a_page_is_served_in_pieces(void **state)
{
    (void)state;
    assert_int_equal(bus_add(&bus, 0x1000, 0x100, &a.device), 0);
    uint64_t value;
    for (unsigned size = 3; size < 8; size++) {
        if (is_power_of_two(size))
            continue;
        assert_int_equal(read_at(0x1000, size, &value), BUS_DONE);
        assert_int_equal(value, UINT64_C(0x8877665544332211) & (UINT64_MAX >> (64 - 8 * size)));
    }
    assert_int_equal(bus_write(&bus, 0x1001, 7, UINT64_C(0x77665544332211), NULL), BUS_DONE);
    assert_int_equal(a.writes, 3);
    assert_int_equal(a.last_offset, 7);
    assert_int_equal(a.last_value, 0x77);
    /* half of it outside: what is there answers */
    assert_int_equal(read_at(0x10fe, 3, &value), BUS_DONE);
    assert_int_equal(value >> 16, 0xff);
    assert_int_equal(read_at(UINT64_MAX - 1, 3, &value), BUS_NOBODY);
    assert_int_equal(value, 0xffffff);
}

static void an_access_that_waits_says_for_whom(void **state)
{
    (void)state;
    a = (struct echo){.device.class = &slow_class, .result = BUS_LATER, .busy = true};
    assert_int_equal(bus_add(&bus, 0x1000, 0x100, &a.device), 0);
    assert_int_equal(bus_add(&bus, 0x1100, 0x100, &b.device), 0);
    struct bus_device *who;
    uint64_t value;
    assert_int_equal(bus_write(&bus, 0x1000, 4, 0, &who), BUS_LATER);
    assert_true(bus_device_busy(who));
    assert_int_equal(bus_read(&bus, 0x10fe, 3, &value, &who), BUS_LATER); /* two bytes there, one in b */
    assert_ptr_equal(who, &a.device);
    a.busy = false;
    assert_false(bus_device_busy(who));
    assert_false(bus_device_busy(&b.device));
}

static void a_place_that_is_taken_or_none_is_refused(void **state)
{
    (void)state;
    assert_int_equal(bus_add(&bus, 0x1000, 0x100, &a.device), 0);
    assert_int_equal(bus_add(&bus, 0x2000, 0x100, &a.device), -EEXIST);
    static const struct {
        uint64_t base, size;
        int error;
    } bad[] = {
        {0x1000, 0x100, -EEXIST}, {0xfff, 2, -EEXIST},  {0x10ff, 1, -EEXIST},         {0x0, 0x10000, -EEXIST},
        {0x1050, 0x10, -EEXIST},  {0x3000, 0, -EINVAL}, {UINT64_MAX - 1, 3, -EINVAL}, {UINT64_MAX, 1, -EINVAL},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(bus_add(&bus, bad[i].base, bad[i].size, &b.device), bad[i].error);
        assert_null(bus_place_of(&bus, &b.device));
    }
    assert_int_equal(bus.count, 1);
    assert_int_equal(bus_add(&bus, 0xf00, 0x100, &b.device), 0);
    assert_int_equal(bus_add(&bus, UINT64_MAX - 1, 1, &c.device), 0);
    assert_ptr_equal(bus_find(&bus, UINT64_MAX - 1)->device, &c.device);
    assert_null(bus_find(&bus, UINT64_MAX));
    assert_int_equal(bus_remove(&bus, &a.device), 0);
    assert_int_equal(bus_remove(&bus, &a.device), -ENOENT);
}

static void a_full_bus_finds_each_of_its_devices_and_takes_no_more(void **state)
{
    (void)state;
    static struct echo many[BUS_RANGES_MAX];
    for (unsigned i = 0; i < BUS_RANGES_MAX; i++) {
        unsigned n = i * 1663 % BUS_RANGES_MAX; /* odd: each once, in no order */
        many[n].device.class = &echo_class;
        assert_int_equal(bus_add(&bus, 0x1000 + n * UINT64_C(0x20), 0x10, &many[n].device), 0);
    }
    assert_int_equal(bus_add(&bus, 0x100, 0x10, &a.device), -ENOSPC);
    for (unsigned i = 0; i < BUS_RANGES_MAX; i++) {
        uint64_t base = 0x1000 + i * UINT64_C(0x20);
        assert_ptr_equal(bus_find(&bus, base)->device, &many[i].device);
        assert_ptr_equal(bus_find(&bus, base + 0xf)->device, &many[i].device);
        assert_null(bus_find(&bus, base - 1));
        assert_null(bus_find(&bus, base + 0x10));
    }
    for (unsigned i = 0; i < BUS_RANGES_MAX; i++)
        assert_int_equal(bus_remove(&bus, &many[i].device), 0);
    assert_int_equal(bus.count, 0);
    assert_null(bus_find(&bus, 0x1000));
}

static void doorbells_and_memory_follow_a_device(void **state)
{
    (void)state;
    struct bus_doorbell bell = {.offset = 0x10, .size = 2}, other = {.offset = 0x20};
    struct bus_memory memory = {.offset = 0x1000, .size = 0x1000};
    bus_doorbell_add(&bus, &a.device, &bell);
    assert_false(bell.bound);
    assert_int_equal(bus_memory_add(&bus, &a.device, &memory), 0);
    assert_int_equal(bus_add(&bus, 0x10000, 0x2000, &a.device), 0);
    assert_true(bell.bound && memory.bound);
    assert_int_equal(bound_at(&bell), 0x10010);
    assert_int_equal(bound_at(&memory), 0x11000);
    bus_doorbell_add(&bus, &a.device, &other);
    assert_int_equal(bound_at(&other), 0x10020);

    struct bus_move move = {.device = &a.device, .base = 0x20000, .size = 0x2000};
    assert_int_equal(bus_move(&bus, &move, 1), 0);
    assert_int_equal(bound_at(&bell), 0x20010);
    assert_int_equal(bound_at(&memory), 0x21000);
    assert_int_equal(bound_at(&other), 0x20020);
    bus_doorbell_remove(&bus, &a.device, &bell);
    bus_doorbell_remove(&bus, &a.device, &bell);
    assert_int_equal(bound_at(&bell), 0);
    assert_int_equal(bus_remove(&bus, &a.device), 0);
    assert_int_equal(port.count, 0);
    assert_false(other.bound || memory.bound);
    bus_memory_remove(&bus, &a.device, &memory);
    bus_memory_remove(&bus, &a.device, &memory);
    assert_null(a.device.memories);
}

static void memory_is_inside_its_device(void **state)
{
    (void)state;
    struct bus_memory memory = {.offset = 0x1000, .size = 0x2000}, good = {.offset = 0, .size = 0x1000};
    assert_int_equal(bus_add(&bus, 0x10000, 0x2000, &a.device), 0);
    assert_int_equal(bus_memory_add(&bus, &a.device, &memory), -EINVAL);
    assert_int_equal(bus_memory_add(&bus, &a.device, &good), 0);
    assert_true(good.bound);
    bus_memory_remove(&bus, &a.device, &good);
    assert_int_equal(port.count, 0);
    port.refuse_after = 0;
    assert_int_equal(bus_memory_add(&bus, &a.device, &good), -ENOMEM);
    assert_null(a.device.memories);
    assert_int_equal(bus_memory_add(&bus, &b.device, &memory), 0); /* it has no place to be outside of */
    assert_int_equal(bus_add(&bus, 0x20000, 0x2000, &b.device), -EINVAL);
}

static void two_devices_change_places(void **state)
{
    (void)state;
    struct bus_memory memories[2] = {{.size = 0x1000}, {.size = 0x1000}};
    bus_memory_add(&bus, &a.device, &memories[0]);
    bus_memory_add(&bus, &b.device, &memories[1]);
    assert_int_equal(bus_add(&bus, 0x1000, 0x1000, &a.device), 0);
    assert_int_equal(bus_add(&bus, 0x2000, 0x1000, &b.device), 0);
    struct bus_move swap[] = {{.device = &a.device, .base = 0x2000, .size = 0x1000},
                              {.device = &b.device, .base = 0x1000, .size = 0x1000}};
    assert_int_equal(bus_move(&bus, swap, 2), 0);
    assert_int_equal(bound_at(&memories[0]), 0x2000);
    assert_int_equal(bound_at(&memories[1]), 0x1000);
    assert_ptr_equal(bus_find(&bus, 0x1000)->device, &b.device);
    assert_ptr_equal(bus_find(&bus, 0x2fff)->device, &a.device);
}

static void a_set_of_moves_that_cannot_be_leaves_everything_as_it_was(void **state)
{
    (void)state;
    struct bus_doorbell bell = {.offset = 0x10};
    struct bus_memory memories[3] = {{.size = 0x1000}, {.size = 0x1000}, {.size = 0x1000}};
    bus_memory_add(&bus, &a.device, &memories[0]);
    bus_memory_add(&bus, &b.device, &memories[1]);
    bus_memory_add(&bus, &c.device, &memories[2]);
    bus_doorbell_add(&bus, &b.device, &bell);
    assert_int_equal(bus_add(&bus, 0x1000, 0x1000, &a.device), 0);
    assert_int_equal(bus_add(&bus, 0x2000, 0x1000, &b.device), 0);
    struct bus_move moves[] = {{.device = &a.device, .base = 0x2000, .size = 0x1000},
                               {.device = &b.device},
                               {.device = &c.device, .base = 0x5000, .size = 0x1000}};
    struct bus_move overlapping[] = {{.device = &a.device, .base = 0x5000, .size = 0x1000},
                                     {.device = &c.device, .base = 0x5800, .size = 0x1000}};
    /* the table refuses; the port refuses the first, or the last */
    for (unsigned turn = 0; turn < 3; turn++) {
        port.refused_address = turn == 1 ? 0x2000 : turn == 2 ? 0x5000 : 0;
        if (turn == 1) { /* that is where b goes back to, too: one refusal of both */
            port.refused_address = 0;
            port.refuse_after = 0;
        }
        int r = turn == 0 ? bus_move(&bus, overlapping, 2) : bus_move(&bus, moves, 3);
        assert_int_equal(r, turn == 0 ? -EEXIST : -ENOMEM);
        assert_int_equal(bus_place_of(&bus, &a.device)->base, 0x1000);
        assert_int_equal(bus_place_of(&bus, &b.device)->base, 0x2000);
        assert_null(bus_place_of(&bus, &c.device));
        assert_int_equal(bound_at(&bell), 0x2010);
        assert_int_equal(bound_at(&memories[2]), 0);
        if (turn == 1) { /* the port refused even what it had: exits serve it */
            assert_false(memories[0].bound || memories[1].bound);
            port.refuse_after = -1;
            assert_int_equal(bus_remove(&bus, &a.device) | bus_remove(&bus, &b.device), 0);
            assert_int_equal(bus_add(&bus, 0x1000, 0x1000, &a.device), 0);
            assert_int_equal(bus_add(&bus, 0x2000, 0x1000, &b.device), 0);
        }
        assert_int_equal(bound_at(&memories[0]), 0x1000);
        assert_int_equal(bound_at(&memories[1]), 0x2000);
    }
    port.refused_address = 0;
    assert_int_equal(bus_move(&bus, moves, 3), 0);
    assert_null(bus_place_of(&bus, &b.device));
    assert_int_equal(bound_at(&memories[0]), 0x2000);
    assert_int_equal(bound_at(&memories[2]), 0x5000);
    assert_int_equal(bus_move(&bus, moves, 3), 0); /* once more changes nothing */
    assert_int_equal(port.count, 2);
}

static void a_doorbell_that_cannot_be_bound_is_an_exit(void **state)
{
    (void)state;
    struct bus_doorbell bell = {.offset = 0x10};
    port.refuses_doorbells = true;
    bus_doorbell_add(&bus, &a.device, &bell);
    assert_int_equal(bus_add(&bus, 0x1000, 0x1000, &a.device), 0);
    assert_false(bell.bound);
    assert_int_equal(bus_write(&bus, 0x1010, 2, 7, NULL), BUS_DONE);
    assert_int_equal(a.last_value, 7);
    assert_int_equal(bus_remove(&bus, &a.device), 0);
}

static void a_bus_without_a_port_serves_everything_by_exits(void **state)
{
    (void)state;
    struct bus_doorbell bell = {.offset = 0x10};
    struct bus_memory memory = {.size = 0x1000};
    bus_init(&bus, "pio", NULL);
    bus_doorbell_add(&bus, &a.device, &bell);
    assert_int_equal(bus_memory_add(&bus, &a.device, &memory), 0);
    assert_int_equal(bus_add(&bus, 0x1000, 0x1000, &a.device), 0);
    assert_false(bell.bound || memory.bound);
    uint64_t value;
    assert_int_equal(read_at(0x1000, 1, &value), BUS_DONE);
    assert_int_equal(bus_remove(&bus, &a.device), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_access_reaches_the_device_there_at_its_offset, set_up),
        cmocka_unit_test_setup(where_nobody_is_a_read_gives_ones_and_is_counted, set_up),
        cmocka_unit_test_setup(a_device_may_say_that_nobody_is_there, set_up),
        cmocka_unit_test_setup(an_access_that_crosses_a_page_is_served_in_pieces, set_up),
        cmocka_unit_test_setup(an_access_that_waits_says_for_whom, set_up),
        cmocka_unit_test_setup(a_place_that_is_taken_or_none_is_refused, set_up),
        cmocka_unit_test_setup(a_full_bus_finds_each_of_its_devices_and_takes_no_more, set_up),
        cmocka_unit_test_setup(doorbells_and_memory_follow_a_device, set_up),
        cmocka_unit_test_setup(memory_is_inside_its_device, set_up),
        cmocka_unit_test_setup(two_devices_change_places, set_up),
        cmocka_unit_test_setup(a_set_of_moves_that_cannot_be_leaves_everything_as_it_was, set_up),
        cmocka_unit_test_setup(a_doorbell_that_cannot_be_bound_is_an_exit, set_up),
        cmocka_unit_test_setup(a_bus_without_a_port_serves_everything_by_exits, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
