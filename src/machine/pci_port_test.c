/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "machine/pci_port.h"
#include "machine/pci_test_rig.h"

#define PORT RIG_SLOT(1, 0)
#define BUS 5

/* Slot registers in the PCIe capability, and bits. */
enum { LINK_STATUS = 0x12, SLOT_CAPABILITIES = 0x14, SLOT_CONTROL = 0x18, SLOT_STATUS = 0x1a };
enum { BUTTON = 0x1, PRESENCE_CHANGED = 0x8, PRESENT = 0x40, LINK_CHANGED = 0x100 };
enum { ALL_EVENTS = 0x1029, HOT_PLUG_INTERRUPT = 0x20, LINK_CHANGED_ENABLE = 0x1000, POWER_OFF = 0x400 };

static struct rig rig;
static struct pci_port port, second;
static struct rig_function one, two;
static struct pci_port *ejected;

static void note_ejected(struct pci_port_listener *listener, struct pci_port *from)
{
    (void)listener;
    ejected = from;
}

static const struct pci_port_listener_class listener_class = {.ejected = note_ejected};
static struct pci_port_listener listener = {.class = &listener_class};

static uint32_t express(unsigned offset, unsigned size)
{
    return rig_read(&rig, 0, PORT, port.express.offset + offset, size);
}

static enum bus_result write_express(unsigned offset, unsigned size, uint32_t value)
{
    return rig_write(&rig, 0, PORT, port.express.offset + offset, size, value);
}

/* As a guest does it: numbers, windows, decoders. */
static void open_bridge(void)
{
    rig_write(&rig, 0, PORT, 0x18, 4, BUS << 8 | BUS << 16);
    rig_write(&rig, 0, PORT, 0x20, 4, (RIG_LOW + 0x100000) >> 16 | (RIG_LOW + 0x200000));
    rig_write(&rig, 0, PORT, 0x28, 4, RIG_HIGH >> 32);
    rig_write(&rig, 0, PORT, 0x2c, 4, RIG_HIGH >> 32);
    rig_write(&rig, 0, PORT, 0x24, 4, 0x00f00000);
    rig_write(&rig, 0, PORT, 0x1c, 2, 0x2020);
    rig_write(&rig, 0, PORT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO | PCI_COMMAND_BUS_MASTER);
}

static int set_up(void **state)
{
    (void)state;
    rig_start(&rig);
    ejected = NULL;
    struct pci_port_options options = {
        .slot_number = 17, .port_number = 3, .vendor = 0x1234, .device = 0x0002, .pin = 1, .listener = &listener};
    assert_int_equal(pci_port_init(&port, &options), 0);
    assert_int_equal(pci_port_connect(&port, &rig.root, 1, 0), 0);
    options.slot_number = 18;
    assert_int_equal(pci_port_init(&second, &options), 0);
    rig_function_init(&one, 0x1111);
    rig_function_init(&two, 0x2222);
    rig_add_bar(&one, 0, PCI_BAR_MEMORY_32, false, 0x1000);
    rig_add_bar(&one, 2, PCI_BAR_MEMORY_64, true, 0x1000);
    rig_add_bar(&one, 4, PCI_BAR_PORTS, false, 0x20);
    return 0;
}

static void a_port_is_a_bridge_with_a_slot(void **state)
{
    (void)state;
    assert_int_equal(rig_read(&rig, 0, PORT, PCI_HEADER_TYPE, 1), 1);
    assert_int_equal(rig_read(&rig, 0, PORT, 0x0a, 2), 0x0604);
    assert_int_equal(express(2, 2), 0x0142);
    assert_int_equal(express(SLOT_CAPABILITIES, 4), 17u << 19 | 1u << 18 | 0x7b);
    assert_int_equal(express(0x0c, 4) >> 24, 3);
    assert_int_equal(express(SLOT_STATUS, 2), 0);
    assert_int_equal(express(LINK_STATUS, 2) & 0x2000, 0);
    rig_write(&rig, 0, PORT, 0x18, 4, UINT32_MAX);
    assert_int_equal(rig_read(&rig, 0, PORT, 0x18, 4), 0x00ffffff);
    rig_write(&rig, 0, PORT, 0x24, 4, UINT32_MAX);
    assert_int_equal(rig_read(&rig, 0, PORT, 0x24, 4), 0xfff1fff1);
    rig_write(&rig, 0, PORT, 0x1c, 4, UINT32_MAX);
    assert_int_equal(rig_read(&rig, 0, PORT, 0x1c, 4), 0x0000f0f0);
    rig_write(&rig, 0, PORT, 0x38, 4, UINT32_MAX); /* no ROM */
    assert_int_equal(rig_read(&rig, 0, PORT, 0x38, 4), 0);
}

static void what_is_behind_is_found_by_the_number_the_guest_gave(void **state)
{
    (void)state;
    assert_int_equal(pci_port_plug(&port, 0, &one.function, false), 0);
    assert_int_equal(express(SLOT_STATUS, 2), PRESENT); /* no news: it was there before the guest */
    assert_int_equal(express(LINK_STATUS, 2) & 0x2000, 0x2000);
    assert_int_equal(rig_read(&rig, BUS, 0, 0, 4), 0xffffffff);
    open_bridge();
    assert_int_equal(rig_read(&rig, BUS, 0, 0, 4), 0x11111234);
    assert_int_equal(pci_function_id(&one.function), BUS << 8);
    assert_int_equal(rig_read(&rig, BUS, RIG_SLOT(1, 0), 0, 4), 0xffffffff);
    rig_write(&rig, 0, PORT, 0x19, 1, 9);
    assert_int_equal(rig_read(&rig, BUS, 0, 0, 4), 0xffffffff);
    assert_int_equal(rig_read(&rig, 9, 0, 0, 4), 0x11111234);
    /* two with the same number: the first answers */
    assert_int_equal(pci_port_connect(&second, &rig.root, 2, 0), 0);
    assert_int_equal(pci_port_plug(&second, 0, &two.function, false), 0);
    rig_write(&rig, 0, RIG_SLOT(2, 0), 0x19, 1, 9);
    assert_int_equal(rig_read(&rig, 9, 0, 0, 4), 0x11111234);
    rig_write(&rig, 0, PORT, 0x19, 1, 0);
    assert_int_equal(rig_read(&rig, 9, 0, 0, 4), 0x22221234);
    assert_int_equal(rig_read(&rig, 0, 0, 0, 4), 0x00011234);
    assert_int_equal(pci_port_unplug(&second), 0);
    pci_port_disconnect(&second);
    pci_port_disconnect(&second);
    assert_int_equal(rig_read(&rig, 9, 0, 0, 4), 0xffffffff);
}

static void addresses_pass_through_the_bridges_windows_alone(void **state)
{
    (void)state;
    assert_int_equal(pci_port_plug(&port, 0, &one.function, false), 0);
    open_bridge();
    rig_write(&rig, BUS, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    rig_write(&rig, BUS, 0, PCI_BAR0, 4, RIG_LOW + 0x2ff000);
    rig_write(&rig, BUS, 0, PCI_BAR0 + 8, 8, RIG_HIGH + 0xfff000);
    rig_write(&rig, BUS, 0, PCI_BAR0 + 16, 4, 0x2fe0);
    assert_int_equal(rig_who(&rig, RIG_LOW + 0x2ff000), 0x111100);
    assert_int_equal(rig_who(&rig, RIG_HIGH + 0xfff000), 0x111102);
    assert_non_null(bus_find(&rig.pio, 0x2fe0));
    rig_write(&rig, BUS, 0, PCI_BAR0, 4, RIG_LOW + 0x300000); /* behind the limit */
    assert_int_equal(rig_who(&rig, RIG_LOW + 0x300000), 0);
    rig_write(&rig, 0, PORT, 0x22, 2, RIG_LOW >> 16 | 0x30);
    assert_int_equal(rig_who(&rig, RIG_LOW + 0x300000), 0x111100);
    rig_write(&rig, 0, PORT, PCI_COMMAND, 2, PCI_COMMAND_IO);
    assert_int_equal(rig_who(&rig, RIG_LOW + 0x300000), 0);
    assert_non_null(bus_find(&rig.pio, 0x2fe0));
    rig_write(&rig, 0, PORT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_null(bus_find(&rig.pio, 0x2fe0));
    /* a base above the limit closes it; the widest of all is one */
    rig_write(&rig, 0, PORT, 0x20, 4, 0x0000fff0);
    assert_int_equal(rig_who(&rig, RIG_LOW + 0x300000), 0);
    rig_write(&rig, 0, PORT, 0x24, 4, 0xfff00000);
    rig_write(&rig, 0, PORT, 0x28, 4, 0);
    rig_write(&rig, 0, PORT, 0x2c, 4, UINT32_MAX);
    assert_int_equal(rig_who(&rig, RIG_LOW + 0x300000), 0x111100);
}

static void a_hot_plugged_device_is_announced(void **state)
{
    (void)state;
    open_bridge();
    write_express(SLOT_CONTROL, 2, ALL_EVENTS);
    assert_int_equal(pci_port_plug(&port, 1, &two.function, true), 0);
    assert_false(pci_port_is_occupied(&port) || rig.wires[1].raised);
    assert_int_equal(rig_read(&rig, BUS, 1, 0, 4), 0xffffffff); /* no card before function 0 */
    assert_int_equal(pci_port_plug(&port, 0, &one.function, true), 0);
    assert_true(pci_port_is_occupied(&port) && rig.wires[1].raised);
    assert_int_equal(express(SLOT_STATUS, 2), PRESENT | PRESENCE_CHANGED | LINK_CHANGED);
    assert_int_equal(rig_read(&rig, BUS, 1, 0, 4), 0x22221234);
    write_express(SLOT_STATUS, 2, PRESENCE_CHANGED);
    assert_true(rig.wires[1].raised);
    write_express(SLOT_STATUS, 2, LINK_CHANGED);
    assert_false(rig.wires[1].raised);
    assert_int_equal(express(SLOT_STATUS, 2), PRESENT);
    assert_int_equal(pci_port_plug(&port, 2, &two.function, true), -EBUSY);
}

static void a_slot_without_power_has_no_link(void **state)
{
    (void)state;
    open_bridge();
    write_express(SLOT_CONTROL, 2, ALL_EVENTS | POWER_OFF); /* an empty one: pciehp saves power */
    assert_false(pci_port_has_power(&port));
    assert_int_equal(express(SLOT_STATUS, 2), 0);
    assert_int_equal(pci_port_plug(&port, 0, &one.function, true), 0);
    assert_int_equal(express(SLOT_STATUS, 2), PRESENT | PRESENCE_CHANGED | BUTTON);
    assert_int_equal(rig_read(&rig, BUS, 0, 0, 4), 0xffffffff);
    write_express(SLOT_STATUS, 2, PRESENCE_CHANGED | BUTTON);
    write_express(SLOT_CONTROL, 2, ALL_EVENTS);
    assert_int_equal(express(SLOT_STATUS, 2), PRESENT | LINK_CHANGED);
    assert_int_equal(express(LINK_STATUS, 2) & 0x2000, 0x2000);
    assert_int_equal(rig_read(&rig, BUS, 0, 0, 4), 0x11111234);
    /* off and on without being asked: nothing is ejected, and the device begins anew */
    rig_write(&rig, BUS, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    write_express(SLOT_CONTROL, 2, ALL_EVENTS | POWER_OFF);
    assert_int_equal(one.resets, 1);
    assert_null(ejected);
    write_express(SLOT_CONTROL, 2, ALL_EVENTS);
    assert_int_equal(rig_read(&rig, BUS, 0, PCI_COMMAND, 2), 0);
}

static void a_guest_that_waits_for_the_button_alone_learns_of_a_device(void **state)
{
    (void)state;
    open_bridge();
    /* Linux, where there is a button: interrupts for it and for the link, none for presence; no power while empty. */
    write_express(SLOT_CONTROL, 2, BUTTON | HOT_PLUG_INTERRUPT | LINK_CHANGED_ENABLE | POWER_OFF);
    assert_int_equal(pci_port_plug(&port, 0, &one.function, true), 0);
    assert_true(rig.wires[1].raised);
}

static void a_device_goes_when_the_guest_agrees(void **state)
{
    (void)state;
    open_bridge();
    assert_int_equal(pci_port_unplug_request(&port), -ENOENT);
    assert_int_equal(pci_port_plug(&port, 0, &one.function, false), 0);
    write_express(SLOT_CONTROL, 2, ALL_EVENTS);
    assert_int_equal(pci_port_unplug_request(&port), 0);
    assert_int_equal(express(SLOT_STATUS, 2), PRESENT | BUTTON);
    assert_true(rig.wires[1].raised);
    write_express(SLOT_STATUS, 2, BUTTON);
    write_express(SLOT_CONTROL, 2, ALL_EVENTS | 0x200); /* the indicator blinks */
    assert_null(ejected);
    write_express(SLOT_CONTROL, 2, ALL_EVENTS | POWER_OFF);
    assert_ptr_equal(ejected, &port);
    assert_int_equal(pci_port_unplug_request(&port), -EALREADY);
    write_express(SLOT_STATUS, 2, LINK_CHANGED);
    assert_int_equal(pci_port_unplug(&port), 0);
    assert_int_equal(express(SLOT_STATUS, 2), PRESENCE_CHANGED);
    assert_null(one.function.root);
    assert_int_equal(pci_port_unplug(&port), -ENOENT);
    assert_int_equal(pci_port_plug(&port, 0, &two.function, true), 0);
}

static void a_surprise_removal_is_told_afterwards(void **state)
{
    (void)state;
    open_bridge();
    assert_int_equal(pci_port_plug(&port, 3, &two.function, false), 0);
    assert_int_equal(pci_port_plug(&port, 0, &one.function, false), 0);
    rig_write(&rig, BUS, 0, PCI_BAR0, 4, RIG_LOW + 0x100000);
    rig_write(&rig, BUS, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    pci_function_set_intx(&one.function, true);
    assert_true(rig.wires[1].raised);
    assert_int_equal(pci_port_unplug(&port), 0);
    assert_int_equal(rig_who(&rig, RIG_LOW + 0x100000), 0);
    assert_int_equal(rig_read(&rig, BUS, 0, 0, 4), 0xffffffff);
    assert_int_equal(express(SLOT_STATUS, 2), PRESENCE_CHANGED | LINK_CHANGED);
    assert_false(rig.wires[1].raised);
    assert_null(two.function.root);
}

static void with_msi_on_each_event_is_one_message(void **state)
{
    (void)state;
    open_bridge();
    unsigned at = port.msi.capability.offset;
    rig_write(&rig, 0, PORT, at + 4, 4, 0xfee00000);
    rig_write(&rig, 0, PORT, at + 12, 2, 0x41);
    rig_write(&rig, 0, PORT, at + 2, 2, 1);
    write_express(SLOT_CONTROL, 2, ALL_EVENTS);
    assert_int_equal(pci_port_plug(&port, 0, &one.function, true), 0);
    assert_int_equal(rig.message_count, 1);
    assert_int_equal(rig.messages[0].data, 0x41);
    assert_int_equal(rig.sources[0], PORT);
    assert_false(rig.wires[1].raised);
    assert_int_equal(pci_port_unplug_request(&port), 0); /* the condition has been true all along */
    assert_int_equal(rig.message_count, 1);
    write_express(SLOT_STATUS, 2, 0x1ff);
    assert_int_equal(pci_port_unplug_request(&port), 0);
    assert_int_equal(rig.message_count, 2);
    write_express(SLOT_STATUS, 2, 0x1ff);
    write_express(SLOT_CONTROL, 2, ALL_EVENTS & ~0x20); /* no interrupts, but status all the same */
    assert_int_equal(pci_port_unplug_request(&port), 0);
    assert_int_equal(rig.message_count, 2);
    assert_int_equal(express(SLOT_STATUS, 2) & BUTTON, BUTTON);
}

static void the_bus_behind_is_reset_by_the_bridge(void **state)
{
    (void)state;
    open_bridge();
    assert_int_equal(pci_port_plug(&port, 0, &one.function, false), 0);
    one.reset_result = BUS_LATER;
    one.busy = true;
    assert_int_equal(rig_write(&rig, 0, PORT, 0x3e, 2, 0x40), BUS_LATER);
    assert_true(pci_root_busy(&rig.root));
    one.busy = false;
    assert_false(pci_root_busy(&rig.root));
    assert_int_equal(rig_write(&rig, 0, PORT, 0x3e, 2, 0x40), BUS_DONE);
    assert_int_equal(one.resets, 1); /* the edge counts */
    rig_write(&rig, 0, PORT, 0x3e, 2, 0);
    one.reset_result = BUS_DONE;
    rig_write(&rig, 0, PORT, 0x3e, 2, 0x40);
    assert_int_equal(one.resets, 2);
}

static void a_reset_of_the_machine_keeps_what_is_plugged_in(void **state)
{
    (void)state;
    open_bridge();
    assert_int_equal(pci_port_plug(&port, 0, &one.function, true), 0);
    write_express(SLOT_CONTROL, 2, ALL_EVENTS | POWER_OFF);
    assert_int_equal(pci_root_reset(&rig.root), BUS_DONE);
    assert_true(pci_port_has_power(&port) && pci_port_is_occupied(&port));
    assert_int_equal(express(SLOT_STATUS, 2), PRESENT);
    assert_int_equal(rig_read(&rig, BUS, 0, 0, 4), 0xffffffff); /* no number any more */
    open_bridge();
    assert_int_equal(rig_read(&rig, BUS, 0, 0, 4), 0x11111234);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_port_is_a_bridge_with_a_slot, set_up),
        cmocka_unit_test_setup(what_is_behind_is_found_by_the_number_the_guest_gave, set_up),
        cmocka_unit_test_setup(addresses_pass_through_the_bridges_windows_alone, set_up),
        cmocka_unit_test_setup(a_hot_plugged_device_is_announced, set_up),
        cmocka_unit_test_setup(a_slot_without_power_has_no_link, set_up),
        cmocka_unit_test_setup(a_guest_that_waits_for_the_button_alone_learns_of_a_device, set_up),
        cmocka_unit_test_setup(a_device_goes_when_the_guest_agrees, set_up),
        cmocka_unit_test_setup(a_surprise_removal_is_told_afterwards, set_up),
        cmocka_unit_test_setup(with_msi_on_each_event_is_one_message, set_up),
        cmocka_unit_test_setup(the_bus_behind_is_reset_by_the_bridge, set_up),
        cmocka_unit_test_setup(a_reset_of_the_machine_keeps_what_is_plugged_in, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
