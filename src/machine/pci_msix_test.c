/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>

#include "machine/pci_msi.h"
#include "machine/pci_msix.h"
#include "machine/pci_test_rig.h"

#define VECTORS 40
#define SLOT RIG_SLOT(2, 0)
#define PENDING 0x800u
#define BAR_BYTES 0x1000u

/* The owner of the interrupts: what it has been told, and handles that collect. */
struct owner {
    struct pci_msix_port port;
    struct msi_message messages[VECTORS];
    bool open[VECTORS], collected[VECTORS];
    unsigned changes;
};

static void owner_changed(struct pci_msix_port *port, unsigned index, const struct msi_message *message)
{
    struct owner *owner = (struct owner *)port;
    owner->changes++;
    owner->open[index] = message != NULL;
    if (message)
        owner->messages[index] = *message;
}

static bool owner_pending(struct pci_msix_port *port, unsigned index)
{
    return ((struct owner *)port)->collected[index];
}

static const struct pci_msix_port_class owner_class = {.changed = owner_changed, .pending = owner_pending};

static struct rig rig;
static struct rig_function one;
static struct owner owner;
static struct pci_msix msix;
static struct pci_msix_vector vectors[VECTORS];

static int set_up(void **state)
{
    (void)state;
    rig_start(&rig);
    rig_function_init(&one, 0x1111);
    owner = (struct owner){.port.class = &owner_class};
    assert_int_equal(pci_msix_init(&msix, &one.function, &owner.port, vectors, VECTORS, 1, 0, PENDING), 0);
    assert_int_equal(pci_function_add_bar(&one.function, 1, PCI_BAR_MEMORY_32, false, BAR_BYTES, &msix.device), 0);
    assert_int_equal(pci_function_plug(&rig.root, &rig.root.bus, 2, 0, &one.function), 0);
    rig_write(&rig, 0, SLOT, PCI_BAR0 + 4, 4, RIG_LOW);
    rig_write(&rig, 0, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    return 0;
}

static void control(uint32_t value)
{
    rig_write(&rig, 0, SLOT, msix.capability.offset + 2u, 2, value);
}

static void write_entry(unsigned index, uint64_t address, uint32_t data, uint32_t mask)
{
    bus_write(&rig.mmio, RIG_LOW + 16 * index, 8, address, NULL);
    bus_write(&rig.mmio, RIG_LOW + 16 * index + 8, 4, data, NULL);
    bus_write(&rig.mmio, RIG_LOW + 16 * index + 12, 4, mask, NULL);
}

static uint64_t read_at(uint64_t offset, unsigned size)
{
    uint64_t value;
    (void)bus_read(&rig.mmio, RIG_LOW + offset, size, &value, NULL);
    return value;
}

static void the_capability_says_where_table_and_pending_bits_are(void **state)
{
    (void)state;
    unsigned at = msix.capability.offset;
    assert_int_equal(rig_read(&rig, 0, SLOT, at, 1), PCI_CAPABILITY_MSIX);
    assert_int_equal(rig_read(&rig, 0, SLOT, at + 2, 2), VECTORS - 1);
    assert_int_equal(rig_read(&rig, 0, SLOT, at + 4, 4), 1);
    assert_int_equal(rig_read(&rig, 0, SLOT, at + 8, 4), PENDING | 1);
    assert_true(pci_msix_covers(&msix, 0) && pci_msix_covers(&msix, VECTORS * 16 - 1));
    assert_false(pci_msix_covers(&msix, VECTORS * 16) || pci_msix_covers(&msix, PENDING - 1));
    assert_true(pci_msix_covers(&msix, PENDING + 7) && !pci_msix_covers(&msix, PENDING + 8));
    control(0xffff);
    assert_int_equal(rig_read(&rig, 0, SLOT, at + 2, 2), 0xc000 | (VECTORS - 1));
}

static void an_entry_is_kept_as_it_was_written(void **state)
{
    (void)state;
    assert_int_equal(read_at(16 * 5 + 12, 4), 1); /* masked at first */
    write_entry(5, UINT64_C(0x1234567890), 0x4041, 0xfffffffe);
    assert_int_equal(read_at(16 * 5, 8), UINT64_C(0x1234567890));
    assert_int_equal(read_at(16 * 5 + 8, 8), 0x4041);
    write_entry(5, 0xfee00003, 1, 1);
    assert_int_equal(read_at(16 * 5, 4), 0xfee00000);
    /* anything but aligned words and pairs of them is none (6.8.2) */
    bus_write(&rig.mmio, RIG_LOW + 16 * 5 + 8, 2, 7, NULL);
    bus_write(&rig.mmio, RIG_LOW + 16 * 5 + 6, 4, 7, NULL);
    bus_write(&rig.mmio, RIG_LOW + 16 * 5 + 4, 8, 7, NULL);
    bus_write(&rig.mmio, RIG_LOW + VECTORS * 16, 4, 7, NULL);
    bus_write(&rig.mmio, RIG_LOW + PENDING, 4, 7, NULL);
    assert_int_equal(read_at(16 * 5, 8), 0xfee00000);
    assert_int_equal(read_at(16 * 5 + 8, 4), 1);
    assert_int_equal(read_at(16 * 5 + 8, 2), 0);
    assert_int_equal(read_at(VECTORS * 16, 4), 0);
    assert_int_equal(read_at(PENDING, 8), 0);
}

static void the_owner_hears_what_opens_closes_and_changes(void **state)
{
    (void)state;
    write_entry(3, 0xfee01000, 0x31, 0);
    assert_int_equal(owner.changes, 0); /* MSI-X is off */
    control(0x8000);
    assert_true(pci_msix_is_enabled(&msix));
    assert_int_equal(owner.changes, 1);
    assert_true(owner.open[3]);
    assert_int_equal(owner.messages[3].address, 0xfee01000);
    assert_int_equal(owner.messages[3].data, 0x31);
    bus_write(&rig.mmio, RIG_LOW + 16 * 3 + 8, 4, 0x32, NULL);
    assert_int_equal(owner.messages[3].data, 0x32);
    assert_int_equal(owner.changes, 2);
    bus_write(&rig.mmio, RIG_LOW + 16 * 3 + 8, 4, 0x32, NULL);
    assert_int_equal(owner.changes, 2); /* nothing new */
    control(0xc000);
    assert_false(owner.open[3]);
    control(0x8000);
    assert_true(owner.open[3]);
    write_entry(3, 0xfee01000, 0x32, 1);
    assert_false(owner.open[3]);
    write_entry(3, 0xfee01000, 0x32, 0);
    rig_write(&rig, 0, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_false(owner.open[3]); /* a message is a write to memory */
    rig_write(&rig, 0, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    assert_true(owner.open[3]);
    struct msi_message message;
    assert_true(pci_msix_message(&msix, 3, &message));
    assert_int_equal(message.data, 0x32);
    assert_false(pci_msix_message(&msix, 4, &message) || pci_msix_message(&msix, VECTORS, &message));
    (void)pci_function_reset(&one.function, false);
    assert_false(owner.open[3]);
    assert_int_equal(atomic_load(&vectors[3].words[2]), 0);
}

static void a_vector_is_sent_with_its_message(void **state)
{
    (void)state;
    write_entry(7, UINT64_C(0xfee02000), 0x77, 0);
    pci_msix_send(&msix, 7); /* MSI-X is off: nothing is kept */
    control(0x8000);
    assert_int_equal(rig.message_count, 0);
    pci_msix_send(&msix, 7);
    pci_msix_send(&msix, 0xffff);
    assert_int_equal(rig.message_count, 1);
    assert_int_equal(rig.sources[0], SLOT);
    assert_int_equal(rig.messages[0].address, 0xfee02000);
    assert_int_equal(rig.messages[0].data, 0x77);
}

static void what_meets_a_mask_is_pending_and_sent_once_when_it_opens(void **state)
{
    (void)state;
    write_entry(33, 0xfee00000, 1, 1);
    control(0x8000);
    pci_msix_send(&msix, 33);
    pci_msix_send(&msix, 33);
    assert_int_equal(rig.message_count, 0);
    assert_int_equal(read_at(PENDING, 8), UINT64_C(1) << 33);
    assert_int_equal(read_at(PENDING + 4, 4), 2);
    write_entry(33, 0xfee03000, 2, 0);
    assert_int_equal(rig.message_count, 1);
    assert_int_equal(rig.messages[0].data, 2);
    assert_int_equal(rig.messages[0].address, 0xfee03000);
    assert_int_equal(read_at(PENDING, 8), 0);
    control(0xc000);
    pci_msix_send(&msix, 33);
    assert_int_equal(rig.message_count, 1);
    control(0x8000);
    assert_int_equal(rig.message_count, 2);
    control(0xc000);
    pci_msix_send(&msix, 33);
    control(0); /* off: it is forgotten */
    control(0x8000);
    assert_int_equal(rig.message_count, 2);
}

static void what_the_owners_handle_has_collected_is_pending(void **state)
{
    (void)state;
    write_entry(2, 0xfee00000, 1, 1);
    control(0x8000);
    owner.collected[2] = owner.collected[39] = true;
    assert_int_equal(read_at(PENDING, 8), UINT64_C(1) << 39 | 1 << 2);
    write_entry(2, 0xfee00000, 1, 0); /* open: it is his to deliver */
    assert_int_equal(read_at(PENDING, 8), UINT64_C(1) << 39);
    assert_int_equal(rig.message_count, 0);
    control(0);
    assert_int_equal(read_at(PENDING, 8), 0);
}

static void what_cannot_be_msix_is_refused(void **state)
{
    (void)state;
    static struct rig_function other;
    static struct pci_msix bad;
    static struct pci_capability filler[16];
    rig_function_init(&other, 1);
    assert_int_equal(pci_msix_init(&bad, &other.function, NULL, vectors, 0, 0, 0, 0x800), -EINVAL);
    assert_int_equal(pci_msix_init(&bad, &other.function, NULL, vectors, 2049, 0, 0, 0x800), -EINVAL);
    assert_int_equal(pci_msix_init(&bad, &other.function, NULL, vectors, 1, 6, 0, 0x800), -EINVAL);
    assert_int_equal(pci_msix_init(&bad, &other.function, NULL, vectors, 1, 0, 4, 0x800), -EINVAL);
    assert_int_equal(pci_msix_init(&bad, &other.function, NULL, vectors, 1, 0, 0, 0x804), -EINVAL);
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(pci_function_add_capability(&other.function, &filler[i], PCI_CAPABILITY_VENDOR, NULL, 16), 0);
    assert_int_equal(pci_msix_init(&bad, &other.function, NULL, vectors, 1, 0, 0, 0x800), -ENOSPC);
    struct pci_msi msi;
    assert_int_equal(pci_msi_init(&msi, &other.function), -ENOSPC);
}

static void msi_sends_its_one_message(void **state)
{
    (void)state;
    static struct rig_function other;
    static struct pci_msi msi;
    rig_function_init(&other, 0x2222);
    assert_int_equal(pci_msi_init(&msi, &other.function), 0);
    pci_msi_send(&msi); /* not plugged in */
    assert_int_equal(pci_function_plug(&rig.root, &rig.root.bus, 9, 1, &other.function), 0);
    unsigned at = msi.capability.offset, slot = RIG_SLOT(9, 1);
    rig_write(&rig, 0, slot, at + 4, 4, 0xfee00003);
    rig_write(&rig, 0, slot, at + 8, 4, 1);
    rig_write(&rig, 0, slot, at + 12, 2, 0x5aa5);
    pci_msi_send(&msi);
    rig_write(&rig, 0, slot, at + 2, 2, 0x71);
    assert_int_equal(rig_read(&rig, 0, slot, at + 2, 2), 0x81);
    assert_true(pci_msi_is_enabled(&msi));
    pci_msi_send(&msi);
    assert_int_equal(rig.message_count, 0); /* no bus master */
    rig_write(&rig, 0, slot, PCI_COMMAND, 2, PCI_COMMAND_BUS_MASTER);
    pci_msi_send(&msi);
    assert_int_equal(rig.message_count, 1);
    assert_int_equal(rig.messages[0].address, UINT64_C(0x1fee00000));
    assert_int_equal(rig.messages[0].data, 0x5aa5);
    assert_int_equal(rig.sources[0], slot);
}

/* ---- several threads ---- */

#define SENDS 20000

static atomic_uint taken;

static void count_message(struct msi_port *port, uint16_t source, const struct msi_message *message)
{
    (void)port;
    (void)source;
    /* both halves of one message: the guest changes them only while it is masked */
    assert_int_equal(message->address >> 12 & 0xff, message->data);
    atomic_fetch_add(&taken, 1);
}

static const struct msi_port_class counting_class = {.send = count_message};

static void *send_many(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < SENDS; i++)
        pci_msix_send(&msix, 1);
    return NULL;
}

static void no_signal_is_lost_between_two_threads(void **state)
{
    (void)state;
    rig.msi.class = &counting_class;
    atomic_store(&taken, 0);
    write_entry(1, 0xfee00000, 0, 0);
    control(0x8000);
    pthread_t sender;
    assert_int_equal(pthread_create(&sender, NULL, send_many, NULL), 0);
    for (unsigned i = 0; i < 2000; i++) {
        bus_write(&rig.mmio, RIG_LOW + 16 + 12, 4, 1, NULL);
        bus_write(&rig.mmio, RIG_LOW + 16, 4, 0xfee00000 + (i % 256 << 12), NULL);
        bus_write(&rig.mmio, RIG_LOW + 16 + 8, 4, i % 256, NULL);
        bus_write(&rig.mmio, RIG_LOW + 16 + 12, 4, 0, NULL);
    }
    assert_int_equal(pthread_join(sender, NULL), 0);
    assert_int_equal(read_at(PENDING, 8), 0); /* open, and nothing left over */
    assert_true(atomic_load(&taken) > 0);
    unsigned before = atomic_load(&taken);
    pci_msix_send(&msix, 1);
    assert_int_equal(atomic_load(&taken), before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_capability_says_where_table_and_pending_bits_are, set_up),
        cmocka_unit_test_setup(an_entry_is_kept_as_it_was_written, set_up),
        cmocka_unit_test_setup(the_owner_hears_what_opens_closes_and_changes, set_up),
        cmocka_unit_test_setup(a_vector_is_sent_with_its_message, set_up),
        cmocka_unit_test_setup(what_meets_a_mask_is_pending_and_sent_once_when_it_opens, set_up),
        cmocka_unit_test_setup(what_the_owners_handle_has_collected_is_pending, set_up),
        cmocka_unit_test_setup(what_cannot_be_msix_is_refused, set_up),
        cmocka_unit_test_setup(msi_sends_its_one_message, set_up),
        cmocka_unit_test_setup(no_signal_is_lost_between_two_threads, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
