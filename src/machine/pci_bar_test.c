/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "machine/pci_bar.h"

#define LOW UINT64_C(0xe0000000)
#define HIGH UINT64_C(0x4000000000)

/* A port that knows who is where, and has a fixed device. */
struct fake_port {
    struct pci_bar_port port;
    uint64_t fixed;    /* refused: a BAR of memory there */
    unsigned refusals; /* of sets to come, whatever they are */
    unsigned sets, last_count;
};

static int port_apply(struct pci_bar_port *self, const struct pci_bar_move *moves, unsigned count)
{
    struct fake_port *fake = (struct fake_port *)self;
    bool arrivals = false;
    for (unsigned i = 0; i < count; i++) {
        arrivals |= moves[i].placed;
        if (moves[i].placed && fake->fixed && moves[i].base == fake->fixed)
            return -EEXIST;
    }
    if (arrivals && fake->refusals > 0) {
        fake->refusals--;
        return -ENOMEM;
    }
    fake->sets++;
    fake->last_count = count;
    return 0;
}

static const struct pci_bar_port_class port_class = {.apply = port_apply};

static struct fake_port port;
static struct pci_bar_engine engine;
static struct pci_bars a, b, c;

static int set_up(void **state)
{
    (void)state;
    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));
    memset(&c, 0, sizeof(c));
    port = (struct fake_port){.port.class = &port_class};
    pci_bar_engine_init(&engine, &port.port);
    const struct pci_bar_window windows[] = {
        {PCI_BAR_MEMORY, LOW, 0x10000000}, {PCI_BAR_MEMORY, HIGH, UINT64_C(1) << 36}, {PCI_BAR_IO, 0x1000, 0xf000}};
    for (unsigned i = 0; i < ARRAY_SIZE(windows); i++)
        assert_int_equal(pci_bar_engine_add_window(&engine, &windows[i]), 0);
    assert_int_equal(pci_bar_set_up(&a, 0, PCI_BAR_MEMORY_32, false, 0x1000, NULL), 0);
    assert_int_equal(pci_bar_set_up(&a, 1, PCI_BAR_PORTS, false, 0x20, NULL), 0);
    assert_int_equal(pci_bar_set_up(&a, 2, PCI_BAR_MEMORY_64, true, 0x4000, NULL), 0);
    assert_int_equal(pci_bar_set_up(&a, PCI_BAR_ROM, PCI_BAR_EXPANSION_ROM, true, 0x10000, NULL), 0);
    assert_int_equal(pci_bar_set_up(&b, 0, PCI_BAR_MEMORY_32, false, 0x1000, NULL), 0);
    assert_int_equal(pci_bar_set_up(&b, 4, PCI_BAR_MEMORY_64, false, UINT64_C(1) << 33, NULL), 0);
    assert_int_equal(pci_bar_set_up(&c, 0, PCI_BAR_MEMORY_32, false, 0x1000, NULL), 0);
    pci_bars_add(&engine, &a, NULL);
    pci_bars_add(&engine, &b, NULL);
    pci_bars_add(&engine, &c, NULL);
    return 0;
}

/* Where BAR @index is; 0: nowhere. */
static uint64_t place(const struct pci_bars *bars, unsigned index)
{
    return bars->bars[index].placed ? bars->bars[index].base : 0;
}

static void all_ones_show_the_size_and_the_kind(void **state)
{
    (void)state;
    static const struct {
        struct pci_bars *bars;
        unsigned index;
        uint32_t expected;
    } registers[] = {
        {&a, 0, 0xfffff000}, {&a, 1, 0xffffffe1},           {&a, 2, 0xffffc00c}, {&a, 3, 0xffffffff}, {&a, 4, 0},
        {&a, 5, 0},          {&a, PCI_BAR_ROM, 0xffff0001}, {&b, 4, 0x00000004}, {&b, 5, 0xfffffffe}, {&a, 7, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(registers); i++) {
        pci_bars_write(registers[i].bars, registers[i].index, UINT32_MAX);
        assert_int_equal(pci_bars_read(registers[i].bars, registers[i].index), registers[i].expected);
    }
    /* with the bits that are no address left out, as OpenBSD does it */
    pci_bars_write(&a, 0, 0xfffffff0);
    assert_int_equal(pci_bars_read(&a, 0), 0xfffff000);
    pci_bars_write(&a, PCI_BAR_ROM, 0xfffff800);
    assert_int_equal(pci_bars_read(&a, PCI_BAR_ROM), 0xffff0000);
}

static void a_bar_answers_when_its_decoder_is_on(void **state)
{
    (void)state;
    pci_bars_write(&a, 0, LOW);
    pci_bars_write(&a, 1, 0x1000);
    assert_int_equal(place(&a, 0), 0);
    pci_bars_decode(&a, true, false);
    assert_int_equal(place(&a, 0), LOW);
    assert_int_equal(place(&a, 1), 0);
    pci_bars_decode(&a, false, true);
    assert_int_equal(place(&a, 0), 0);
    assert_int_equal(place(&a, 1), 0x1000);
    pci_bars_reset(&a);
    assert_int_equal(place(&a, 1), 0);
    assert_int_equal(pci_bars_read(&a, 1), 1);
}

static void a_rom_answers_when_both_its_bits_are_on(void **state)
{
    (void)state;
    pci_bars_write(&a, PCI_BAR_ROM, LOW);
    pci_bars_decode(&a, true, false);
    assert_int_equal(place(&a, PCI_BAR_ROM), 0);
    pci_bars_write(&a, PCI_BAR_ROM, LOW | 1);
    assert_int_equal(place(&a, PCI_BAR_ROM), LOW);
    pci_bars_decode(&a, false, false);
    assert_int_equal(place(&a, PCI_BAR_ROM), 0);
}

static void the_halves_of_an_address_come_in_any_order(void **state)
{
    (void)state;
    uint64_t address = HIGH + 0x123454000;
    pci_bars_decode(&a, true, true);
    pci_bars_write(&a, 2, (uint32_t)address); /* for a moment an address without anything behind it */
    assert_int_equal(place(&a, 2), 0);
    pci_bars_write(&a, 3, (uint32_t)(address >> 32));
    assert_int_equal(place(&a, 2), address);
    address = HIGH + UINT64_C(0x223458000);
    pci_bars_write(&a, 3, (uint32_t)(address >> 32));
    pci_bars_write(&a, 2, (uint32_t)address);
    assert_int_equal(place(&a, 2), address);
    assert_int_equal(pci_bars_read(&a, 2), (uint32_t)address | 0xc);
}

static void sizing_with_decoders_on_ends_where_it_began(void **state)
{
    (void)state;
    pci_bars_decode(&a, true, true);
    pci_bars_set_address(&a, 0, LOW);
    pci_bars_set_address(&a, 2, HIGH);
    uint32_t before = pci_bars_read(&a, 2);
    pci_bars_write(&a, 0, UINT32_MAX);
    assert_int_equal(pci_bars_read(&a, 0), 0xfffff000);
    pci_bars_write(&a, 0, LOW);
    pci_bars_write(&a, 2, UINT32_MAX);
    pci_bars_write(&a, 3, UINT32_MAX);
    assert_int_equal(place(&a, 2), 0);
    pci_bars_write(&a, 2, before);
    pci_bars_write(&a, 3, HIGH >> 32);
    assert_int_equal(place(&a, 0), LOW);
    assert_int_equal(place(&a, 2), HIGH);
}

static void who_is_there_stays_and_the_newcomer_waits(void **state)
{
    (void)state;
    pci_bars_decode(&a, true, false);
    pci_bars_decode(&b, true, false);
    pci_bars_decode(&c, true, false);
    pci_bars_set_address(&a, 0, LOW);
    pci_bars_set_address(&b, 0, LOW);
    pci_bars_set_address(&c, 0, LOW);
    assert_int_equal(place(&a, 0), LOW);
    assert_int_equal(place(&b, 0), 0);
    assert_int_equal(pci_bars_read(&b, 0), LOW); /* whatever comes of it */
    pci_bars_set_address(&a, 0, LOW + 0x1000);
    assert_int_equal(place(&a, 0), LOW + 0x1000);
    assert_int_equal(place(&b, 0), LOW); /* the one that has waited longer */
    assert_int_equal(place(&c, 0), 0);
    pci_bars_set_address(&a, 0, LOW); /* back, behind the others */
    pci_bars_decode(&b, false, false);
    assert_int_equal(place(&c, 0), LOW);
    assert_int_equal(place(&a, 0), 0);
    pci_bars_remove(&c);
    assert_int_equal(place(&a, 0), LOW);
}

static void two_bars_swap_in_one_batch_and_one_after_the_other(void **state)
{
    (void)state;
    pci_bars_decode(&a, true, false);
    pci_bars_decode(&b, true, false);
    pci_bars_set_address(&a, 0, LOW);
    pci_bars_set_address(&b, 0, LOW + 0x1000);
    pci_bar_engine_hold(&engine);
    pci_bars_set_address(&a, 0, LOW + 0x1000);
    pci_bars_set_address(&b, 0, LOW);
    assert_int_equal(place(&a, 0), LOW); /* not yet */
    unsigned sets = port.sets;
    pci_bar_engine_release(&engine);
    assert_int_equal(port.sets, sets + 1);
    assert_int_equal(port.last_count, 2);
    assert_int_equal(place(&a, 0), LOW + 0x1000);
    assert_int_equal(place(&b, 0), LOW);
    pci_bars_write(&a, 0, LOW);
    assert_int_equal(place(&a, 0), 0);
    pci_bars_write(&b, 0, LOW + 0x1000);
    assert_int_equal(place(&a, 0), LOW);
    assert_int_equal(place(&b, 0), LOW + 0x1000);
}

static void no_bar_is_outside_the_hosts_windows_or_at_0(void **state)
{
    (void)state;
    pci_bars_decode(&a, true, true);
    static const uint64_t nowhere[] = {0, LOW - 0x1000, LOW + 0x10000000, 0xfffff000, 0x1000};
    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
        pci_bars_write(&a, 0, (uint32_t)nowhere[i]);
        assert_int_equal(place(&a, 0), 0);
        assert_int_equal(pci_bars_read(&a, 0), nowhere[i]);
    }
    pci_bars_set_address(&a, 2, UINT64_MAX); /* beyond every guest's width: the last of all */
    assert_int_equal(place(&a, 2), 0);
    pci_bars_write(&a, 1, 0x20);
    assert_int_equal(place(&a, 1), 0);
    /* a window of one space says nothing about the other */
    pci_bars_write(&a, 0, 0x2000);
    assert_int_equal(place(&a, 0), 0);
    pci_bars_write(&a, 0, LOW + 0xffff000);
    assert_int_equal(place(&a, 0), LOW + 0xffff000);
    /* half of it in the window is not enough */
    pci_bars_decode(&b, true, false);
    pci_bars_set_address(&b, 4, HIGH + (UINT64_C(7) << 33));
    assert_int_equal(place(&b, 4), HIGH + (UINT64_C(7) << 33));
    pci_bars_set_address(&b, 4, HIGH + (UINT64_C(8) << 33));
    assert_int_equal(place(&b, 4), 0);
}

static void a_fixed_device_is_waited_for(void **state)
{
    (void)state;
    port.fixed = LOW;
    pci_bars_decode(&a, true, true);
    pci_bar_engine_hold(&engine);
    pci_bars_set_address(&a, 0, LOW);
    pci_bars_set_address(&a, 1, 0x1000);
    pci_bar_engine_release(&engine);
    assert_int_equal(place(&a, 0), 0);
    assert_int_equal(place(&a, 1), 0x1000); /* what can be done has been done */
    assert_true(engine.refused_total > 0);
    port.fixed = 0;
    pci_bar_engine_retry(&engine);
    assert_int_equal(place(&a, 0), LOW);
}

static void a_refused_move_leaves_nothing_at_the_old_address(void **state)
{
    (void)state;
    pci_bars_decode(&a, true, true);
    pci_bars_set_address(&a, 0, LOW);
    port.refusals = 2; /* the set, and the same alone */
    pci_bars_set_address(&a, 0, LOW + 0x1000);
    assert_int_equal(place(&a, 0), 0);
    assert_int_equal(pci_bars_read(&a, 0), LOW + 0x1000);
    pci_bars_decode(&b, true, false); /* any change is an opportunity */
    assert_int_equal(place(&a, 0), LOW + 0x1000);
    port.refusals = 1; /* only the set */
    pci_bars_set_address(&a, 0, LOW);
    assert_int_equal(place(&a, 0), LOW);
}

static void a_function_behind_a_bridge_answers_in_the_bridges_windows(void **state)
{
    (void)state;
    static struct pci_bars behind;
    struct pci_bar_gate gate = {0};
    memset(&behind, 0, sizeof(behind));
    assert_int_equal(pci_bar_set_up(&behind, 0, PCI_BAR_MEMORY_32, false, 0x1000, NULL), 0);
    pci_bars_set_address(&behind, 0, LOW + 0x100000);
    pci_bars_decode(&behind, true, false);
    pci_bars_add(&engine, &behind, &gate);
    assert_int_equal(place(&behind, 0), 0);
    struct pci_bar_window window = {PCI_BAR_MEMORY, LOW + 0x100000, 0x100000};
    pci_bar_gate_set(&engine, &gate, &window, 1);
    assert_int_equal(place(&behind, 0), LOW + 0x100000);
    window.base += 0x100000;
    pci_bar_gate_set(&engine, &gate, &window, 1);
    assert_int_equal(place(&behind, 0), 0);
    pci_bars_set_address(&behind, 0, LOW + 0x1ff000);
    assert_int_equal(place(&behind, 0), 0);
    pci_bars_set_address(&behind, 0, LOW + 0x2ff000);
    assert_int_equal(place(&behind, 0), LOW + 0x2ff000);
    pci_bars_remove(&behind);
    pci_bars_remove(&behind);
    assert_int_equal(place(&behind, 0), 0);
}

static void a_change_larger_than_a_set_is_made_all_the_same(void **state)
{
    (void)state;
    static struct pci_bars many[PCI_BAR_MOVES_MAX + 9];
    memset(many, 0, sizeof(many));
    pci_bar_engine_hold(&engine);
    for (unsigned i = 0; i < ARRAY_SIZE(many); i++) {
        assert_int_equal(pci_bar_set_up(&many[i], 0, PCI_BAR_MEMORY_32, false, 0x1000, NULL), 0);
        pci_bars_set_address(&many[i], 0, LOW + i * UINT64_C(0x1000));
        pci_bars_decode(&many[i], true, false);
        pci_bars_add(&engine, &many[i], NULL);
    }
    pci_bar_engine_release(&engine);
    pci_bar_engine_hold(&engine);
    for (unsigned i = 0; i < ARRAY_SIZE(many); i++) {
        assert_int_equal(place(&many[i], 0), LOW + i * UINT64_C(0x1000));
        pci_bars_set_address(&many[i], 0, LOW + (ARRAY_SIZE(many) - 1 - i) * UINT64_C(0x1000));
    }
    pci_bar_engine_release(&engine);
    for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
        assert_int_equal(place(&many[i], 0), LOW + (ARRAY_SIZE(many) - 1 - i) * UINT64_C(0x1000));
    for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
        pci_bars_remove(&many[i]);
}

static void what_cannot_be_a_bar_is_none(void **state)
{
    (void)state;
    struct pci_bars bars = {0};
    static const struct {
        unsigned index;
        enum pci_bar_kind kind;
        uint64_t size;
    } bad[] = {
        {0, PCI_BAR_MEMORY_32, 8},
        {0, PCI_BAR_MEMORY_32, 0x1800},
        {0, PCI_BAR_MEMORY_32, UINT64_C(1) << 32},
        {0, PCI_BAR_MEMORY_64, 0},
        {0, PCI_BAR_MEMORY_64, UINT64_C(1) << 63},
        {0, PCI_BAR_PORTS, 2},
        {0, PCI_BAR_PORTS, 0x20000},
        {5, PCI_BAR_MEMORY_64, 0x1000},
        {0, PCI_BAR_EXPANSION_ROM, 0x1000},
        {PCI_BAR_ROM, PCI_BAR_EXPANSION_ROM, 0x400},
        {PCI_BAR_ROM, PCI_BAR_EXPANSION_ROM, 0x2000000},
        {PCI_BAR_ROM, PCI_BAR_MEMORY_32, 0x1000},
        {PCI_BAR_REGISTERS, PCI_BAR_MEMORY_32, 0x1000},
        {0, PCI_BAR_NONE, 0x1000},
        {0, PCI_BAR_UPPER_HALF, 0x1000},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(pci_bar_set_up(&bars, bad[i].index, bad[i].kind, false, bad[i].size, NULL), -EINVAL);
    assert_int_equal(pci_bar_set_up(&bars, 1, PCI_BAR_MEMORY_64, false, 0x1000, NULL), 0);
    assert_int_equal(pci_bar_set_up(&bars, 1, PCI_BAR_MEMORY_32, false, 0x1000, NULL), -EEXIST);
    assert_int_equal(pci_bar_set_up(&bars, 2, PCI_BAR_MEMORY_32, false, 0x1000, NULL), -EEXIST);
    assert_int_equal(pci_bar_set_up(&bars, 0, PCI_BAR_MEMORY_64, false, 0x1000, NULL), -EEXIST);
    struct pci_bar_window window = {PCI_BAR_MEMORY, UINT64_MAX, 2};
    assert_int_equal(pci_bar_engine_add_window(&engine, &window), -EINVAL);
    window = (struct pci_bar_window){PCI_BAR_IO, 0x1000, 0};
    assert_int_equal(pci_bar_engine_add_window(&engine, &window), -EINVAL);
    window.size = 1;
    while (engine.window_count < PCI_BAR_WINDOWS_MAX)
        assert_int_equal(pci_bar_engine_add_window(&engine, &window), 0);
    assert_int_equal(pci_bar_engine_add_window(&engine, &window), -ENOSPC);
}

/* ---- state ---- */

static void a_restored_machine_has_everybody_where_he_was(void **state)
{
    (void)state;
    uint8_t states[3][PCI_BARS_STATE_BYTES];
    pci_bars_decode(&a, true, false);
    pci_bars_decode(&b, true, false);
    pci_bars_decode(&c, true, false);
    pci_bars_set_address(&c, 0, LOW);
    pci_bars_set_address(&b, 0, LOW); /* waits first */
    pci_bars_set_address(&a, 0, LOW);
    pci_bars_write(&a, PCI_BAR_ROM, LOW + 0x10000 + 1);
    pci_bars_save(&a, states[0]);
    pci_bars_save(&b, states[1]);
    pci_bars_save(&c, states[2]);
    (void)set_up(NULL);
    pci_bars_decode(&a, true, false);
    pci_bars_set_address(&a, 0, LOW); /* as a fresh machine happens to have it */
    pci_bar_engine_hold(&engine);
    assert_int_equal(pci_bars_load(&a, states[0]), 0);
    assert_int_equal(pci_bars_load(&b, states[1]), 0);
    assert_int_equal(pci_bars_load(&c, states[2]), 0);
    pci_bar_engine_release(&engine);
    assert_int_equal(place(&c, 0), LOW);
    assert_int_equal(place(&a, PCI_BAR_ROM), LOW + 0x10000);
    assert_int_equal(place(&a, 0) | place(&b, 0), 0);
    pci_bars_decode(&c, false, false);
    assert_int_equal(place(&b, 0), LOW);
    assert_int_equal(place(&a, 0), 0);
}

static void who_was_there_is_before_who_has_waited_longer(void **state)
{
    (void)state;
    uint8_t states[2][PCI_BARS_STATE_BYTES];
    pci_bars_decode(&a, true, false);
    pci_bars_decode(&b, true, false);
    pci_bars_decode(&c, true, false);
    pci_bars_set_address(&c, 0, LOW);
    pci_bars_write(&a, PCI_BAR_ROM, LOW + 1); /* 64 KiB: waits for c */
    pci_bars_set_address(&b, 0, LOW + 0x1000);
    pci_bars_remove(&c);
    assert_int_equal(place(&a, PCI_BAR_ROM), 0); /* and now for b, who came later */
    pci_bars_save(&a, states[0]);
    pci_bars_save(&b, states[1]);
    (void)set_up(NULL);
    pci_bar_engine_hold(&engine);
    assert_int_equal(pci_bars_load(&a, states[0]), 0);
    assert_int_equal(pci_bars_load(&b, states[1]), 0);
    pci_bar_engine_release(&engine);
    assert_int_equal(place(&a, PCI_BAR_ROM), 0);
    assert_int_equal(place(&b, 0), LOW + 0x1000);
}

static void a_state_of_other_bars_is_refused(void **state)
{
    (void)state;
    uint8_t good[PCI_BARS_STATE_BYTES], bytes[PCI_BARS_STATE_BYTES];
    pci_bars_set_address(&a, 0, LOW);
    pci_bars_decode(&a, true, false);
    pci_bars_save(&a, good);
    assert_int_equal(pci_bars_load(&b, good), -EBADMSG);
    /* address off its size, clock beyond reason, flags, kind, ROM bit of none, upper half with an address, decoders */
    static const struct {
        unsigned at;
        uint8_t value;
    } lies[] = {{1, 1}, {4, 1}, {15, 0xff}, {16, 8}, {20, 2}, {16, 1}, {72, 1}, {168, 4}};
    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        memcpy(bytes, good, sizeof(bytes));
        bytes[lies[i].at] = lies[i].value;
        assert_int_equal(pci_bars_load(&a, bytes), -EBADMSG);
        assert_int_equal(place(&a, 0), LOW);
    }
    assert_int_equal(pci_bars_load(&a, good), 0);
    assert_int_equal(place(&a, 0), LOW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(all_ones_show_the_size_and_the_kind, set_up),
        cmocka_unit_test_setup(a_bar_answers_when_its_decoder_is_on, set_up),
        cmocka_unit_test_setup(a_rom_answers_when_both_its_bits_are_on, set_up),
        cmocka_unit_test_setup(the_halves_of_an_address_come_in_any_order, set_up),
        cmocka_unit_test_setup(sizing_with_decoders_on_ends_where_it_began, set_up),
        cmocka_unit_test_setup(who_is_there_stays_and_the_newcomer_waits, set_up),
        cmocka_unit_test_setup(two_bars_swap_in_one_batch_and_one_after_the_other, set_up),
        cmocka_unit_test_setup(no_bar_is_outside_the_hosts_windows_or_at_0, set_up),
        cmocka_unit_test_setup(a_fixed_device_is_waited_for, set_up),
        cmocka_unit_test_setup(a_refused_move_leaves_nothing_at_the_old_address, set_up),
        cmocka_unit_test_setup(a_function_behind_a_bridge_answers_in_the_bridges_windows, set_up),
        cmocka_unit_test_setup(a_change_larger_than_a_set_is_made_all_the_same, set_up),
        cmocka_unit_test_setup(what_cannot_be_a_bar_is_none, set_up),
        cmocka_unit_test_setup(a_restored_machine_has_everybody_where_he_was, set_up),
        cmocka_unit_test_setup(who_was_there_is_before_who_has_waited_longer, set_up),
        cmocka_unit_test_setup(a_state_of_other_bars_is_refused, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
