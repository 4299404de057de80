/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "machine/pci_assign.h"
#include "machine/pci_port.h"
#include "machine/pci_test_rig.h"

#define MIB UINT64_C(0x100000)

static struct rig rig;
static struct pci_port ports[2];
static struct rig_function root_one, root_two, behind;
static const struct pci_assign_options options = {
    .reserve_memory = 2, .reserve_prefetchable = 32, .reserve_io = 1, .lines = {10, 11, 12, 13}};

static int set_up(void **state)
{
    (void)state;
    rig_start(&rig);
    for (unsigned i = 0; i < 2; i++) {
        const struct pci_port_options port = {
            .slot_number = (uint16_t)(i + 1), .vendor = 0x1234, .device = 2, .pin = 1};
        assert_int_equal(pci_port_init(&ports[i], &port), 0);
        assert_int_equal(pci_port_connect(&ports[i], &rig.root, 1 + i, 0), 0);
    }
    rig_function_init(&root_one, 0x1111);
    rig_function_init(&root_two, 0x2222);
    rig_function_init(&behind, 0x3333);
    rig_add_bar(&root_one, 0, PCI_BAR_MEMORY_32, false, 0x1000);
    rig_add_bar(&root_one, 1, PCI_BAR_PORTS, false, 0x40);
    rig_add_bar(&root_one, 2, PCI_BAR_MEMORY_64, true, 64 * MIB);
    rig_add_bar(&root_one, PCI_BAR_ROM, PCI_BAR_EXPANSION_ROM, false, 0x10000);
    rig_add_bar(&root_two, 0, PCI_BAR_MEMORY_64, false, 4 * MIB);
    rig_add_bar(&behind, 0, PCI_BAR_MEMORY_32, false, 0x4000);
    rig_add_bar(&behind, 1, PCI_BAR_MEMORY_32, false, 4 * MIB);
    rig_add_bar(&behind, 2, PCI_BAR_MEMORY_64, true, 0x8000);
    rig_add_bar(&behind, 4, PCI_BAR_PORTS, false, 0x20);
    assert_int_equal(pci_function_plug(&rig.root, &rig.root.bus, 5, 0, &root_one.function), 0);
    assert_int_equal(pci_function_plug(&rig.root, &rig.root.bus, 6, 0, &root_two.function), 0);
    assert_int_equal(pci_port_plug(&ports[1], 0, &behind.function, false), 0);
    return 0;
}

/* Where BAR @index is; and it is aligned, inside [@base, @base + @size), and answers. */
static uint64_t place(struct rig_function *function, unsigned index, uint64_t base, uint64_t size)
{
    const struct pci_bar *bar = &function->function.bars.bars[index];
    assert_true(bar->placed && is_aligned(bar->base, bar->size));
    assert_true(bar->base >= base && range_within(bar->base - base, bar->size, size));
    return bar->base;
}

static void every_bar_has_an_address_and_answers(void **state)
{
    (void)state;
    assert_int_equal(pci_assign(&rig.root, &options), 0);
    place(&root_one, 0, RIG_LOW, RIG_LOW_BYTES);
    place(&root_one, 1, RIG_IO, RIG_IO_BYTES);
    place(&root_one, 2, RIG_HIGH, RIG_HIGH_BYTES);
    place(&root_two, 0, RIG_LOW, RIG_LOW_BYTES);
    place(&behind, 0, RIG_LOW, RIG_LOW_BYTES);
    place(&behind, 1, RIG_LOW, RIG_LOW_BYTES);
    place(&behind, 2, RIG_HIGH, RIG_HIGH_BYTES);
    place(&behind, 4, RIG_IO, RIG_IO_BYTES);
    assert_false(root_one.function.bars.bars[PCI_BAR_ROM].placed);
    assert_int_equal(rig_read(&rig, 0, RIG_SLOT(5, 0), PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    assert_int_equal(rig_read(&rig, 0, RIG_SLOT(6, 0), PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
    assert_int_equal(rig_read(&rig, 0, RIG_SLOT(5, 0), PCI_INTERRUPT_LINE, 1), 11);
    assert_int_equal(rig_read(&rig, 2, 0, PCI_INTERRUPT_LINE, 1), 12);
}

static void bridges_have_numbers_and_windows_with_room(void **state)
{
    (void)state;
    assert_int_equal(pci_assign(&rig.root, &options), 0);
    for (unsigned i = 0; i < 2; i++) {
        unsigned slot = RIG_SLOT(1 + i, 0);
        assert_int_equal(rig_read(&rig, 0, slot, 0x18, 4), (1 + i) << 8 | (1 + i) << 16);
        assert_int_equal(rig_read(&rig, 0, slot, PCI_COMMAND, 2), 7);
        uint64_t base = (uint64_t)rig_read(&rig, 0, slot, 0x20, 2) << 16;
        uint64_t limit = ((uint64_t)rig_read(&rig, 0, slot, 0x22, 2) << 16) | 0xfffff;
        assert_int_equal(limit + 1 - base, i == 0 ? 2 * MIB : 5 * MIB); /* what is there, or what is kept */
        if (i == 1) {
            place(&behind, 0, base, limit + 1 - base);
            place(&behind, 1, base, limit + 1 - base);
        }
        base = (uint64_t)(rig_read(&rig, 0, slot, 0x24, 2) & 0xfff0) << 16 | (uint64_t)rig_read(&rig, 0, slot, 0x28, 4)
                                                                                 << 32;
        limit = (uint64_t)(rig_read(&rig, 0, slot, 0x26, 2) & 0xfff0) << 16 | 0xfffff |
                (uint64_t)rig_read(&rig, 0, slot, 0x2c, 4) << 32;
        assert_int_equal(limit + 1 - base, 32 * MIB);
        assert_int_equal(rig_read(&rig, 0, slot, 0x1c, 1), rig_read(&rig, 0, slot, 0x1d, 1)); /* 4 KiB */
    }
    assert_int_equal(rig_read(&rig, 2, 0, PCI_VENDOR_ID, 4), 0x33331234);
}

static void the_same_machine_has_the_same_addresses_after_a_reset(void **state)
{
    (void)state;
    assert_int_equal(pci_assign(&rig.root, &options), 0);
    uint64_t before[] = {root_one.function.bars.bars[2].base, behind.function.bars.bars[0].base};
    rig_write(&rig, 0, RIG_SLOT(5, 0), PCI_BAR0, 4, RIG_LOW + 0x10000000); /* a guest of its own mind */
    (void)pci_root_reset(&rig.root);
    assert_int_equal(pci_assign(&rig.root, &options), 0);
    assert_int_equal(pci_assign(&rig.root, &options), 0); /* and without one */
    assert_int_equal(root_one.function.bars.bars[2].base, before[0]);
    assert_int_equal(behind.function.bars.bars[0].base, before[1]);
}

static void a_machine_without_high_memory_and_ports_does_with_low(void **state)
{
    (void)state;
    rig.root.engine.window_count = 1;
    assert_int_equal(pci_assign(&rig.root, &options), -ENOSPC); /* BARs of ports have nowhere to go */
    place(&root_one, 2, RIG_LOW, RIG_LOW_BYTES);
    place(&behind, 2, RIG_LOW, RIG_LOW_BYTES);
    assert_int_equal(rig_read(&rig, 0, RIG_SLOT(1, 0), 0x24, 4), 0x0001fff1); /* closed */
    assert_int_equal(rig_read(&rig, 0, RIG_SLOT(1, 0), 0x1c, 2), 0x00f0);
    assert_int_equal(rig_read(&rig, 0, RIG_SLOT(5, 0), PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
}

static void what_finds_no_room_stays_out_and_the_rest_is_done(void **state)
{
    (void)state;
    rig.root.engine.windows[0].size = 8 * MIB; /* room for the bridges, not for the 4 MiB of root_two */
    assert_int_equal(pci_assign(&rig.root, &options), 0);
    place(&root_two, 0, RIG_HIGH, RIG_HIGH_BYTES);       /* 64 bits can go above */
    rig.root.engine.windows[0].size = 4 * MIB + 0x80000; /* no bridge's window fits */
    assert_int_equal(pci_assign(&rig.root, &options), -ENOSPC);
    place(&root_one, 0, RIG_LOW + 4 * MIB, 0x80000);
    assert_false(behind.function.bars.bars[1].placed);
    rig.root.options.buses = 2;
    assert_int_equal(pci_assign(&rig.root, &options), -ENOSPC);
    assert_int_equal(rig_read(&rig, 2, 0, PCI_VENDOR_ID, 2), 0xffff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_bar_has_an_address_and_answers, set_up),
        cmocka_unit_test_setup(bridges_have_numbers_and_windows_with_room, set_up),
        cmocka_unit_test_setup(the_same_machine_has_the_same_addresses_after_a_reset, set_up),
        cmocka_unit_test_setup(a_machine_without_high_memory_and_ports_does_with_low, set_up),
        cmocka_unit_test_setup(what_finds_no_room_stays_out_and_the_rest_is_done, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
