/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "machine/pci_msix.h"
#include "machine/pci_port.h"
#include "machine/pci_test_rig.h"

#define VECTORS 4
#define BUS 3
#define PORT RIG_SLOT(1, 0)
#define TWO RIG_SLOT(2, 0)

/* A machine: a port with a function that has MSI-X, and a function on the root bus. */
static struct machine {
    struct rig rig;
    struct pci_port port;
    struct rig_function one, two;
    struct pci_msix msix;
    struct pci_msix_vector vectors[VECTORS];
} machine;

static uint8_t saved[65536], again[65536];

static void build(void)
{
    memset(&machine, 0, sizeof(machine));
    rig_start(&machine.rig);
    const struct pci_port_options options = {.slot_number = 1, .vendor = 0x1234, .device = 2, .pin = 1};
    rig_function_init(&machine.one, 0x1111);
    rig_function_init(&machine.two, 0x2222);
    int r = pci_port_init(&machine.port, &options);
    r |= pci_port_connect(&machine.port, &machine.rig.root, 1, 0);
    r |= pci_msix_init(&machine.msix, &machine.one.function, NULL, machine.vectors, VECTORS, 1, 0, 0x800);
    r |= pci_function_add_bar(&machine.one.function, 1, PCI_BAR_MEMORY_32, false, 0x1000, &machine.msix.device);
    rig_add_bar(&machine.one, 0, PCI_BAR_MEMORY_32, false, 0x1000);
    rig_add_bar(&machine.two, 0, PCI_BAR_MEMORY_32, false, 0x1000);
    r |= pci_port_plug(&machine.port, 0, &machine.one.function, false);
    r |= pci_function_plug(&machine.rig.root, &machine.rig.root.bus, 2, 0, &machine.two.function);
    assert_int_equal(r, 0);
}

static void drive(void)
{
    struct rig *rig = &machine.rig;
    rig_write(rig, 0, PORT, 0x18, 4, BUS << 8 | BUS << 16);
    rig_write(rig, 0, PORT, 0x20, 4, RIG_LOW >> 16 | RIG_LOW);
    rig_write(rig, 0, PORT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    rig_write(rig, BUS, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    rig_write(rig, BUS, 0, PCI_BAR0, 4, RIG_LOW);
    rig_write(rig, BUS, 0, PCI_BAR0 + 4, 4, RIG_LOW + 0x2000);
    rig_write(rig, 0, TWO, PCI_BAR0, 4, RIG_LOW); /* waits for it */
    rig_write(rig, 0, TWO, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    bus_write(&rig->mmio, RIG_LOW + 0x2000, 8, 0xfee00000, NULL);
    bus_write(&rig->mmio, RIG_LOW + 0x2008, 4, 0x99, NULL);
    rig_write(rig, BUS, 0, machine.msix.capability.offset + 2u, 2, 0x8000);
    pci_msix_send(&machine.msix, 0); /* masked: pending */
    bus_write(&rig->pio, 0xcf8, 4, 0x80001234, NULL);
    pci_function_set_intx(&machine.two.function, true);
    machine.one.state = 0xabcdef;
    assert_int_equal(pci_port_unplug_request(&machine.port), 0);
}

static size_t save(uint8_t *bytes, size_t size)
{
    struct state_writer writer = {.bytes = bytes, .size = size};
    int r = pci_root_save(&machine.rig.root, &writer);
    assert_true(r == 0 || (r == -ENOSPC && writer.used == 0));
    return writer.used;
}

static int load(const uint8_t *bytes, size_t size)
{
    struct state_reader reader = {.bytes = bytes, .size = size};
    return pci_root_load(&machine.rig.root, &reader);
}

static void a_restored_machine_is_the_one_that_was_saved(void **state)
{
    (void)state;
    build();
    drive();
    size_t size = save(saved, sizeof(saved));
    assert_true(size > 0);
    build();
    assert_int_equal(load(saved, size), 0);
    struct rig *rig = &machine.rig;
    assert_int_equal(rig_who(rig, RIG_LOW), 0x111100);
    assert_int_equal(rig_read(rig, BUS, 0, 0, 4), 0x11111234);
    assert_int_equal(rig_read(rig, 0, TWO, PCI_BAR0, 4), RIG_LOW);
    assert_int_equal(rig->root.address, 0x80001234);
    assert_true(rig->wires[2].raised && machine.one.master);
    assert_int_equal(machine.one.state, 0xabcdef);
    assert_int_equal(machine.one.resets, 0);
    assert_int_equal(rig->message_count, 0);
    uint64_t pending;
    bus_read(&rig->mmio, RIG_LOW + 0x2800, 8, &pending, NULL);
    assert_int_equal(pending, 1);
    assert_int_equal(save(again, sizeof(again)), size);
    assert_memory_equal(again, saved, size);
    bus_write(&rig->mmio, RIG_LOW + 0x200c, 4, 0, NULL);
    assert_int_equal(rig->message_count, 1);
    assert_int_equal(rig->messages[0].data, 0x99);
    assert_true(machine.port.requested);
    rig_write(rig, BUS, 0, PCI_COMMAND, 2, 0);
    assert_int_equal(rig_who(rig, RIG_LOW), 0x222200); /* who has waited, waits no more */
}

static void a_state_without_room_is_not_written(void **state)
{
    (void)state;
    build();
    drive();
    size_t size = save(saved, sizeof(saved));
    for (size_t room = 0; room < size; room += 7)
        assert_int_equal(save(again, room), 0);
}

static void a_state_of_another_machine_is_refused(void **state)
{
    (void)state;
    build();
    drive();
    size_t size = save(saved, sizeof(saved));
    /* one function more, one less, another one */
    build();
    static struct rig_function three;
    rig_function_init(&three, 0x3333);
    assert_int_equal(pci_function_plug(&machine.rig.root, &machine.rig.root.bus, 4, 0, &three.function), 0);
    assert_int_equal(load(saved, size), -EBADMSG);
    build();
    pci_function_unplug(&machine.two.function);
    assert_int_equal(load(saved, size), -EBADMSG);
    build();
    pci_function_unplug(&machine.two.function);
    rig_function_init(&three, 0x3333);
    assert_int_equal(pci_function_plug(&machine.rig.root, &machine.rig.root.bus, 2, 0, &three.function), 0);
    assert_int_equal(load(saved, size), -EBADMSG);
    build();
    assert_int_equal(load(saved, 0), -EBADMSG);
}

static void a_state_that_lies_harms_nobody(void **state)
{
    (void)state;
    build();
    drive();
    size_t size = save(saved, sizeof(saved));
    for (size_t cut = 0; cut < size; cut += 5) {
        build();
        assert_true(load(saved, cut) < 0);
        (void)pci_root_reset(&machine.rig.root);
    }
    build();
    for (size_t at = 0; at < size; at++) { /* on a machine that has been through all the others */
        memcpy(again, saved, size);
        again[at] ^= 0x55;
        (void)load(again, size);
    }
    (void)pci_root_reset(&machine.rig.root);
    assert_int_equal(load(saved, size), 0);
    assert_int_equal(rig_who(&machine.rig, RIG_LOW), 0x111100);
}

static void a_newer_state_is_told_from_a_broken_one(void **state)
{
    (void)state;
    build();
    size_t size = save(saved, sizeof(saved));
    saved[4] = 9;
    assert_int_equal(load(saved, size), -ENOTSUP);
    saved[4] = 1;
    size_t function = STATE_RECORD_HEADER_BYTES + 4;
    saved[function + STATE_RECORD_HEADER_BYTES + 4] = 9; /* its registers */
    assert_int_equal(load(saved, size), -ENOTSUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restored_machine_is_the_one_that_was_saved),
        cmocka_unit_test(a_state_without_room_is_not_written),
        cmocka_unit_test(a_state_of_another_machine_is_refused),
        cmocka_unit_test(a_state_that_lies_harms_nobody),
        cmocka_unit_test(a_newer_state_is_told_from_a_broken_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
