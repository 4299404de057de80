/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "machine/pci_test_rig.h"

static struct rig rig;
static struct rig_function one, two, three;

#define ONE RIG_SLOT(3, 0)
#define TWO RIG_SLOT(4, 0)

static int set_up(void **state)
{
    (void)state;
    rig_start(&rig);
    rig_function_init(&one, 0x1111);
    rig_function_init(&two, 0x2222);
    rig_function_init(&three, 0x3333);
    rig_add_bar(&one, 0, PCI_BAR_MEMORY_32, false, 0x1000);
    rig_add_bar(&one, 2, PCI_BAR_MEMORY_64, true, 0x4000);
    rig_add_bar(&one, 4, PCI_BAR_PORTS, false, 0x40);
    rig_add_bar(&two, 0, PCI_BAR_MEMORY_32, false, 0x1000);
    return 0;
}

static void plug(void)
{
    assert_int_equal(pci_function_plug(&rig.root, &rig.root.bus, 3, 0, &one.function), 0);
    assert_int_equal(pci_function_plug(&rig.root, &rig.root.bus, 4, 0, &two.function), 0);
}

static void a_function_says_what_it_is(void **state)
{
    (void)state;
    plug();
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_VENDOR_ID, 4), 0x11111234);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_REVISION_ID, 4), 0x02000001);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x01001234);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_INTERRUPT_PIN, 1), 1);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_HEADER_TYPE, 1), 0);
    assert_int_equal(rig_read(&rig, 0, 0, PCI_CLASS_CODE, 2), 0x0000);
    assert_int_equal(rig_read(&rig, 0, 0, 0x0b, 1), 0x06); /* the host bridge */
    assert_int_equal(pci_function_id(&two.function), TWO);
}

static void where_no_function_is_everything_is_ones(void **state)
{
    (void)state;
    plug();
    assert_int_equal(rig_read(&rig, 0, RIG_SLOT(5, 0), 0, 4), 0xffffffff);
    assert_int_equal(rig_read(&rig, 1, ONE, 0, 2), 0xffff);
    assert_int_equal(rig_read(&rig, 255, RIG_SLOT(31, 7), 0xfff, 1), 0xff);
    assert_int_equal(rig_write(&rig, 1, ONE, 0, 4, 0), BUS_DONE);
    assert_null(pci_root_find(&rig.root, 256, 0));
    assert_null(pci_root_find(&rig.root, 0, 256));
}

static void registers_are_read_and_written_in_any_piece(void **state)
{
    (void)state;
    plug();
    rig_write(&rig, 0, ONE, PCI_CACHE_LINE_SIZE, 1, 0x10);
    rig_write(&rig, 0, ONE, PCI_INTERRUPT_LINE, 1, 0x0b);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_CACHE_LINE_SIZE, 4), 0x10);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_INTERRUPT_LINE, 2), 0x010b);
    assert_int_equal(rig_read(&rig, 0, ONE, 1, 2), 0x1112); /* across registers */
    rig_write(&rig, 0, ONE, 0x3b, 2, 0x0c00);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_INTERRUPT_LINE, 1), 0x0c);
    /* what is read-only stays */
    for (unsigned offset = 0; offset < 4; offset++)
        rig_write(&rig, 0, ONE, offset, 1, 0x5a);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_VENDOR_ID, 4), 0x11111234);
    /* what nobody speaks of is 0, extended space and its end included */
    rig_write(&rig, 0, ONE, 0x100, 4, UINT32_MAX);
    rig_write(&rig, 0, ONE, 0xffc, 4, UINT32_MAX);
    rig_write(&rig, 0, ONE, 0x1fc, 8, UINT64_MAX);
    assert_int_equal(rig_read(&rig, 0, ONE, 0x100, 4), 0);
    assert_int_equal(rig_read(&rig, 0, ONE, 0xffc, 4), 0);
    uint64_t value = 5;
    assert_int_equal(pci_function_read(&one.function, 0xffe, 4, &value), BUS_NOBODY);
    assert_int_equal(pci_function_write(&one.function, 0xffe, 4, 0), BUS_NOBODY);
    assert_int_equal(pci_function_read(&one.function, 0, 8, &value), BUS_DONE);
    assert_int_equal(value, 0x0000000011111234);
}

static void a_one_clears_what_a_one_clears(void **state)
{
    (void)state;
    plug();
    pci_function_put(&one.function, PCI_STATUS, 2, 0x3100);
    rig_write(&rig, 0, ONE, PCI_STATUS, 2, 0x2000);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_STATUS, 2), 0x1100);
    rig_write(&rig, 0, ONE, PCI_COMMAND, 4, 0xffff0000);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_STATUS, 2), 0);
    rig_write(&rig, 0, ONE, PCI_COMMAND, 2, 0xffff);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_COMMAND, 2), 0x0547);
}

static void a_bar_is_sized_moved_and_followed(void **state)
{
    (void)state;
    plug();
    rig_write(&rig, 0, ONE, PCI_BAR0, 4, UINT32_MAX);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_BAR0, 4), 0xfffff000);
    rig_write(&rig, 0, ONE, PCI_BAR0, 4, RIG_LOW);
    rig_write(&rig, 0, ONE, PCI_BAR0 + 8, 8, RIG_HIGH); /* both halves at once */
    rig_write(&rig, 0, ONE, PCI_BAR0 + 16, 2, 0x2000);
    assert_int_equal(rig_who(&rig, RIG_LOW), 0);
    rig_write(&rig, 0, ONE, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    assert_int_equal(rig_who(&rig, RIG_LOW), 0x111100);
    assert_int_equal(rig_who(&rig, RIG_HIGH + 0x3ffc), 0x111102);
    uint64_t value;
    assert_int_equal(bus_read(&rig.pio, 0x203c, 4, &value, NULL), BUS_DONE);
    assert_int_equal(value, 0x111104);
    /* byte by byte: each is a move */
    for (unsigned i = 0; i < 4; i++)
        rig_write(&rig, 0, ONE, PCI_BAR0 + i, 1, (RIG_LOW + 0x123000) >> (8 * i) & 0xff);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_BAR0, 4), RIG_LOW + 0x123000);
    assert_int_equal(rig_who(&rig, RIG_LOW + 0x123000), 0x111100);
    assert_int_equal(rig_who(&rig, RIG_LOW), 0);
    pci_function_unplug(&one.function);
    assert_int_equal(rig_who(&rig, RIG_LOW + 0x123000), 0);
    assert_int_equal(rig_read(&rig, 0, ONE, 0, 4), 0xffffffff);
    pci_function_unplug(&one.function);
}

static void two_functions_quarrel_about_an_address_and_nobody_is_harmed(void **state)
{
    (void)state;
    plug();
    rig_write(&rig, 0, ONE, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    rig_write(&rig, 0, TWO, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    rig_write(&rig, 0, ONE, PCI_BAR0, 4, RIG_LOW);
    rig_write(&rig, 0, TWO, PCI_BAR0, 4, RIG_LOW);
    assert_int_equal(rig_read(&rig, 0, TWO, PCI_BAR0, 4), RIG_LOW);
    assert_int_equal(rig_who(&rig, RIG_LOW), 0x111100);
    rig_write(&rig, 0, ONE, PCI_BAR0, 4, RIG_LOW + 0x1000);
    assert_int_equal(rig_who(&rig, RIG_LOW), 0x222200);
    assert_int_equal(rig_who(&rig, RIG_LOW + 0x1000), 0x111100);
}

static void memory_that_cannot_move_takes_the_ports_back_too(void **state)
{
    (void)state;
    plug();
    struct rig_device fixed = {.device.class = one.content[0].device.class, .tag = 7};
    assert_int_equal(bus_add(&rig.mmio, RIG_LOW, 0x1000, &fixed.device), 0);
    rig_write(&rig, 0, ONE, PCI_BAR0 + 16, 4, 0x2000);
    rig_write(&rig, 0, ONE, PCI_BAR0, 4, RIG_LOW);
    rig_write(&rig, 0, ONE, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO); /* one set */
    assert_int_equal(rig_who(&rig, RIG_LOW), 7);
    assert_int_equal(bus_find(&rig.pio, 0x2000)->device == &one.content[4].device, 1);
    assert_int_equal(bus_remove(&rig.mmio, &fixed.device), 0);
    pci_bar_engine_retry(&rig.root.engine);
    assert_int_equal(rig_who(&rig, RIG_LOW), 0x111100);
}

static void mechanism_1_reaches_the_same_registers(void **state)
{
    (void)state;
    plug();
    uint64_t value;
    bus_write(&rig.pio, 0xcf8, 4, 0x80000000 | ONE << 8 | PCI_COMMAND, NULL);
    bus_read(&rig.pio, 0xcf8, 4, &value, NULL);
    assert_int_equal(value, 0x80000000 | ONE << 8 | PCI_COMMAND);
    bus_write(&rig.pio, 0xcfc, 2, PCI_COMMAND_MEMORY, NULL);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
    bus_read(&rig.pio, 0xcfe, 2, &value, NULL);
    assert_int_equal(value, 0);
    bus_write(&rig.pio, 0xcf8, 4, 0x80000000 | ONE << 8, NULL);
    bus_read(&rig.pio, 0xcff, 1, &value, NULL);
    assert_int_equal(value, 0x11);
    bus_write(&rig.pio, 0xcf8, 1, 0xff, NULL); /* no register of ours */
    bus_read(&rig.pio, 0xcf8, 4, &value, NULL);
    assert_int_equal(value, 0x80000000 | ONE << 8);
    bus_write(&rig.pio, 0xcf8, 4, ONE << 8, NULL); /* not enabled */
    bus_read(&rig.pio, 0xcfc, 4, &value, NULL);
    assert_int_equal(value, 0xffffffff);
    bus_write(&rig.pio, 0xcfc, 4, 0, NULL);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
}

static void the_pin_drives_a_wire_that_several_share(void **state)
{
    (void)state;
    plug();
    assert_int_equal(pci_function_plug(&rig.root, &rig.root.bus, 7, 0, &three.function), 0); /* the wire of device 3 */
    struct rig_wire *wire = &rig.wires[3];
    pci_function_set_intx(&one.function, true);
    assert_true(wire->raised);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
    pci_function_set_intx(&three.function, true);
    pci_function_set_intx(&one.function, false);
    assert_true(wire->raised);
    rig_write(&rig, 0, RIG_SLOT(7, 0), PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
    assert_false(wire->raised);
    assert_int_equal(rig_read(&rig, 0, RIG_SLOT(7, 0), PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
    rig_write(&rig, 0, RIG_SLOT(7, 0), PCI_COMMAND, 2, 0);
    assert_true(wire->raised);
    pci_function_set_intx(&two.function, true);
    assert_true(rig.wires[0].raised);
    pci_function_unplug(&three.function);
    assert_false(wire->raised);
}

static void the_owner_hears_of_the_bus_master_bit(void **state)
{
    (void)state;
    plug();
    assert_false(pci_function_is_bus_master(&one.function));
    rig_write(&rig, 0, ONE, PCI_COMMAND, 2, PCI_COMMAND_BUS_MASTER);
    assert_true(one.master && pci_function_is_bus_master(&one.function));
    assert_int_equal(one.master_changes, 1);
    rig_write(&rig, 0, ONE, PCI_COMMAND, 2, PCI_COMMAND_BUS_MASTER | PCI_COMMAND_MEMORY);
    assert_int_equal(one.master_changes, 1);
    rig_write(&rig, 0, ONE, PCI_COMMAND, 2, 0);
    assert_false(one.master);
}

/* ---- capabilities ---- */

struct watcher {
    struct pci_capability capability;
    unsigned reads, writes, resets, offset;
    enum bus_result result;
};

static enum bus_result watch_read(struct pci_capability *capability, struct pci_function *function, unsigned offset,
                                  unsigned size)
{
    struct watcher *watcher = (struct watcher *)capability;
    (void)size;
    watcher->reads++;
    watcher->offset = offset;
    pci_function_put(function, capability->offset + 4u, 4, 0xabcd0000 + watcher->reads);
    return watcher->result;
}

static enum bus_result watch_written(struct pci_capability *capability, struct pci_function *function, unsigned offset,
                                     unsigned size)
{
    struct watcher *watcher = (struct watcher *)capability;
    (void)function;
    (void)size;
    watcher->writes++;
    watcher->offset = offset;
    return watcher->result;
}

static void watch_reset(struct pci_capability *capability, struct pci_function *function)
{
    (void)function;
    ((struct watcher *)capability)->resets++;
}

static const struct pci_capability_class watch_class = {
    .name = "watch", .read = watch_read, .written = watch_written, .reset = watch_reset};

static void capabilities_are_a_list_and_see_what_is_done_to_them(void **state)
{
    (void)state;
    static const uint8_t bytes[14] = {16, 1, 0, 0, 0, 0};
    struct watcher watcher = {.capability.class = &watch_class};
    assert_int_equal(pci_function_add_capability(&one.function, &watcher.capability, PCI_CAPABILITY_VENDOR, bytes, 16),
                     0);
    assert_int_equal(pci_function_add_power(&one.function, &one.capabilities[0]), 0);
    pci_function_set_writable(&one.function, watcher.capability.offset + 8u, 4, 0xff00ff00);
    plug();
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_STATUS, 2), PCI_STATUS_CAPABILITIES);
    unsigned at = rig_read(&rig, 0, ONE, PCI_CAPABILITIES, 1);
    assert_int_equal(at, watcher.capability.offset);
    assert_int_equal(rig_read(&rig, 0, ONE, at, 1), PCI_CAPABILITY_VENDOR);
    assert_int_equal(rig_read(&rig, 0, ONE, at + 2, 1), 16);
    unsigned next = rig_read(&rig, 0, ONE, at + 1, 1);
    assert_int_equal(rig_read(&rig, 0, ONE, next, 2), PCI_CAPABILITY_POWER);
    unsigned reads = watcher.reads;
    assert_int_equal(rig_read(&rig, 0, ONE, at + 4, 4), 0xabcd0001 + reads);
    assert_int_equal(watcher.offset, at + 4);
    (void)rig_read(&rig, 0, ONE, at - 4, 4);
    (void)rig_read(&rig, 0, ONE, at + 16, 4);
    assert_int_equal(watcher.reads, reads + 1);
    (void)rig_read(&rig, 0, ONE, at - 1, 2); /* its first byte is enough */
    assert_int_equal(watcher.reads, reads + 2);
    rig_write(&rig, 0, ONE, at + 8, 4, UINT32_MAX);
    assert_int_equal(watcher.writes, 1);
    assert_int_equal(pci_function_get(&one.function, at + 8, 4), 0xff00ff00);
    /* it may take longer */
    watcher.result = BUS_LATER;
    assert_int_equal(rig_write(&rig, 0, ONE, at + 8, 4, 0), BUS_LATER);
    uint64_t value;
    assert_int_equal(bus_read(&rig.mmio, RIG_ECAM + ONE * 4096 + at, 4, &value, NULL), BUS_LATER);
    (void)pci_function_reset(&one.function, false);
    assert_int_equal(watcher.resets, 1);
}

static void capabilities_end_where_the_space_ends(void **state)
{
    (void)state;
    static struct pci_capability many[40];
    unsigned count = 0;
    int r;
    while ((r = pci_function_add_capability(&one.function, &many[count], PCI_CAPABILITY_VENDOR, NULL, 16)) == 0)
        count++;
    assert_int_equal(r, -ENOSPC);
    assert_int_equal(count, 12);
    assert_int_equal(pci_function_add_capability(&one.function, &many[count], PCI_CAPABILITY_VENDOR, NULL, 2), -ENOSPC);
    static const uint8_t serial[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    assert_int_equal(pci_function_add_extended(&one.function, &many[12], 0x0003, 1, serial, 8), 0);
    assert_int_equal(pci_function_add_extended(&one.function, &many[13], 0x000b, 1, NULL, 20), 0);
    assert_int_equal(pci_function_add_extended(&one.function, &many[14], 0x000b, 1, NULL, 250), -ENOSPC);
    plug();
    assert_int_equal(rig_read(&rig, 0, ONE, 0x100, 4), 0x10c10003);
    assert_int_equal(rig_read(&rig, 0, ONE, 0x104, 4), 0x04030201);
    assert_int_equal(rig_read(&rig, 0, ONE, 0x10c, 4), 0x0001000b);
}

static void in_d3_a_function_neither_answers_nor_writes(void **state)
{
    (void)state;
    assert_int_equal(pci_function_add_power(&one.function, &one.capabilities[0]), 0);
    plug();
    unsigned control = one.function.power + 4u;
    rig_write(&rig, 0, ONE, PCI_BAR0, 4, RIG_LOW);
    rig_write(&rig, 0, ONE, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    rig_write(&rig, 0, ONE, control, 2, 3);
    assert_int_equal(rig_read(&rig, 0, ONE, control, 2), 0x000b); /* and no reset on the way back */
    assert_int_equal(rig_who(&rig, RIG_LOW), 0);
    assert_false(one.master);
    rig_write(&rig, 0, ONE, control, 2, 1); /* D1 is none of ours */
    assert_int_equal(rig_read(&rig, 0, ONE, control, 2) & 3, 3);
    rig_write(&rig, 0, ONE, control, 2, 0);
    assert_int_equal(rig_who(&rig, RIG_LOW), 0x111100);
    assert_true(one.master);
    assert_int_equal(one.resets, 0);
}

static void a_function_level_reset_is_as_after_power_on(void **state)
{
    (void)state;
    assert_int_equal(pci_function_add_express(&one.function, &one.capabilities[0], true, true), 0);
    assert_int_equal(pci_function_add_express(&two.function, &two.capabilities[0], false, false), 0);
    plug();
    unsigned control = one.function.express + 8u;
    assert_int_equal(rig_read(&rig, 0, ONE, one.function.express + 2u, 2), 0x0092);
    assert_int_equal(rig_read(&rig, 0, TWO, two.function.express + 2u, 2), 0x0002);
    rig_write(&rig, 0, ONE, PCI_BAR0, 4, RIG_LOW);
    rig_write(&rig, 0, ONE, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    pci_function_set_intx(&one.function, true);
    one.reset_result = BUS_LATER;
    one.busy = true;
    assert_int_equal(rig_write(&rig, 0, ONE, control, 2, 0x8010), BUS_LATER);
    assert_int_equal(one.resets, 1);
    assert_true(bus_device_busy(&rig.root.ecam) && bus_device_busy(&rig.root.mechanism_1) && pci_root_busy(&rig.root));
    one.busy = false;
    assert_false(bus_device_busy(&rig.root.ecam));
    assert_int_equal(rig_read(&rig, 0, ONE, control, 2), 0);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_COMMAND, 2), 0);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_BAR0, 4), 0);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_BAR0 + 8, 4), 0xc);
    assert_int_equal(rig_who(&rig, RIG_LOW), 0);
    assert_false(rig.wires[3].raised || one.master);
    rig_write(&rig, 0, TWO, two.function.express + 8u, 2, 0x8000); /* it has none */
    assert_int_equal(two.resets, 0);
    /* a second one that waits, and the first is forgotten when it goes */
    one.busy = true;
    assert_int_equal(rig_write(&rig, 0, ONE, control, 2, 0x8000), BUS_LATER);
    assert_int_equal(rig_write(&rig, 0, ONE, control, 2, 0x8000), BUS_LATER);
    pci_function_unplug(&one.function);
    assert_false(pci_root_busy(&rig.root));
}

static void a_reset_of_the_machine_resets_everybody(void **state)
{
    (void)state;
    plug();
    rig_write(&rig, 0, ONE, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    bus_write(&rig.pio, 0xcf8, 4, 0x80000000, NULL);
    one.function.sticky[PCI_INTERRUPT_LINE] = 0xff;
    rig_write(&rig, 0, ONE, PCI_INTERRUPT_LINE, 1, 5);
    (void)pci_function_reset(&one.function, false);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_INTERRUPT_LINE, 1), 5);
    two.reset_result = BUS_LATER;
    two.busy = true;
    assert_int_equal(pci_root_reset(&rig.root), BUS_LATER);
    assert_int_equal(one.resets, 2);
    assert_int_equal(two.resets, 1);
    assert_true(pci_root_busy(&rig.root));
    two.busy = false;
    assert_false(pci_root_busy(&rig.root));
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_COMMAND, 2), 0);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_INTERRUPT_LINE, 1), 0);
    assert_int_equal(rig.root.address, 0);
}

static void function_0_says_that_there_are_others(void **state)
{
    (void)state;
    plug();
    assert_int_equal(pci_function_plug(&rig.root, &rig.root.bus, 3, 5, &three.function), 0);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_HEADER_TYPE, 1), PCI_HEADER_TYPE_MULTIFUNCTION);
    assert_int_equal(rig_read(&rig, 0, RIG_SLOT(3, 5), PCI_VENDOR_ID, 4), 0x33331234);
    pci_function_unplug(&three.function);
    assert_int_equal(rig_read(&rig, 0, ONE, PCI_HEADER_TYPE, 1), 0);
}

static void a_slot_is_taken_once(void **state)
{
    (void)state;
    plug();
    assert_int_equal(pci_function_plug(&rig.root, &rig.root.bus, 3, 0, &three.function), -EEXIST);
    assert_int_equal(pci_function_plug(&rig.root, &rig.root.bus, 32, 0, &three.function), -EINVAL);
    assert_int_equal(pci_function_plug(&rig.root, &rig.root.bus, 3, 8, &three.function), -EINVAL);
    assert_int_equal(pci_function_add_bar(&three.function, 5, PCI_BAR_MEMORY_64, false, 0x1000, NULL), -EINVAL);
    assert_int_equal(pci_function_add_bar(&three.function, 0, PCI_BAR_MEMORY_64, false, 3, NULL), -EINVAL);
}

static void a_root_that_has_no_room_leaves_nothing_behind(void **state)
{
    (void)state;
    static struct pci_root other;
    struct pci_root_options options = rig.root.options;
    assert_int_equal(pci_root_init(&other, &options), -EEXIST);
    options.ecam_base = 0;
    assert_int_equal(pci_root_init(&other, &options), -EEXIST); /* mechanism #1 */
    assert_null(bus_find(&rig.mmio, 0));
    pci_root_done(&rig.root);
    assert_null(bus_find(&rig.mmio, RIG_ECAM));
    assert_null(bus_find(&rig.pio, 0xcf8));
    assert_int_equal(pci_root_init(&other, &options), 0);
    pci_root_done(&other);
    pci_root_done(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_function_says_what_it_is, set_up),
        cmocka_unit_test_setup(where_no_function_is_everything_is_ones, set_up),
        cmocka_unit_test_setup(registers_are_read_and_written_in_any_piece, set_up),
        cmocka_unit_test_setup(a_one_clears_what_a_one_clears, set_up),
        cmocka_unit_test_setup(a_bar_is_sized_moved_and_followed, set_up),
        cmocka_unit_test_setup(two_functions_quarrel_about_an_address_and_nobody_is_harmed, set_up),
        cmocka_unit_test_setup(memory_that_cannot_move_takes_the_ports_back_too, set_up),
        cmocka_unit_test_setup(mechanism_1_reaches_the_same_registers, set_up),
        cmocka_unit_test_setup(the_pin_drives_a_wire_that_several_share, set_up),
        cmocka_unit_test_setup(the_owner_hears_of_the_bus_master_bit, set_up),
        cmocka_unit_test_setup(capabilities_are_a_list_and_see_what_is_done_to_them, set_up),
        cmocka_unit_test_setup(capabilities_end_where_the_space_ends, set_up),
        cmocka_unit_test_setup(in_d3_a_function_neither_answers_nor_writes, set_up),
        cmocka_unit_test_setup(a_function_level_reset_is_as_after_power_on, set_up),
        cmocka_unit_test_setup(a_reset_of_the_machine_resets_everybody, set_up),
        cmocka_unit_test_setup(function_0_says_that_there_are_others, set_up),
        cmocka_unit_test_setup(a_slot_is_taken_once, set_up),
        cmocka_unit_test_setup(a_root_that_has_no_room_leaves_nothing_behind, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
