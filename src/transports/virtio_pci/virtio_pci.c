/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * BAR 0, each part in pages of its own:
 *
 *     0x0000  common configuration      0x3000  pending bits of MSI-X
 *     0x1000  ISR status                0x4000  table of MSI-X
 *     0x2000  configuration space       behind  notification area: 4 bytes a queue, in its order
 *
 * What has a life is virtio_control's. The driver polls device_status after a reset and queue_reset after that of a
 * queue (4.1.4.3.2), so no access has to wait. Each queue has a notification address of its own, hence a doorbell that
 * no value tells apart, whatever the driver writes there (VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_NOTIF_CONFIG_DATA).
 *
 * With MSI-X a queue interrupts by the handle of its vector, or through pci_msix_send, on any thread. Without, by its
 * bit in the ISR status and the wire; the wire is the machine's, so only its thread touches it (virtio_control_port has
 * a handle then). When MSI-X goes on or off, the queues that run are rerouted.
 *
 * A function that is no bus master touches no memory: its queues stop until it is one again.
 *
 * Limits
 *
 * Fields of the common configuration answer accesses of their own size, which 4.1.3.1 demands of the driver, and halves
 * of 64 bits; others read 0 and write nothing. Two shared memory regions fill the configuration space. No legacy
 * interface, no administration virtqueues, no SR-IOV, no vendor data.
 */
#include "transports/virtio_pci/virtio_pci.h"

#include <errno.h>

#include "transports/virtio_pci/virtio_pci_private.h"

static struct virtio_pci *of_control(const struct virtio_control *control)
{
    return container_of((uintptr_t)control, struct virtio_pci, control);
}

static struct virtio_pci *of_function(const struct pci_function *function)
{
    return container_of((uintptr_t)function, struct virtio_pci, function);
}

/* ---- interrupts ---- */

static bool uses_msix(const struct virtio_pci *pci)
{
    return pci->has_msix && pci_msix_is_enabled(&pci->msix);
}

/* 4.1.4.5.1: without MSI-X the wire is the logical OR of the ISR status. */
static void set_wire(struct virtio_pci *pci)
{
    pci_function_set_intx(&pci->function, !uses_msix(pci) && atomic_load(&pci->control.interrupt_status) != 0);
}

static void queue_interrupt(struct virtio_control *control, unsigned index, bool here)
{
    struct virtio_pci *pci = of_control(control);

    if (uses_msix(pci)) {
        pci_msix_send(&pci->msix, atomic_load(&pci->queues[index].vector));
        return;
    }
    atomic_fetch_or(&control->interrupt_status, VIRTIO_INTERRUPT_QUEUE);
    if (here)
        set_wire(pci);
}

static void config_interrupt(struct virtio_control *control)
{
    struct virtio_pci *pci = of_control(control);

    atomic_fetch_or(&control->interrupt_status, VIRTIO_INTERRUPT_CONFIG);
    if (uses_msix(pci))
        pci_msix_send(&pci->msix, pci->config_vector);
    else
        set_wire(pci);
}

static uint16_t queue_vector(const struct virtio_control *control, unsigned index)
{
    const struct virtio_pci *pci = of_control(control);

    return uses_msix(pci) ? atomic_load(&pci->queues[index].vector) : VIRTIO_NO_VECTOR;
}

uint8_t virtio_pci_read_isr(struct virtio_pci *pci)
{
    uint32_t status = atomic_exchange(&pci->control.interrupt_status, 0);

    set_wire(pci);
    return (uint8_t)status;
}

/* Interrupts may take another way now. */
static void reroute(struct virtio_pci *pci)
{
    bool msix = uses_msix(pci);

    if (msix != pci->msix_enabled) {
        pci->msix_enabled = msix;
        for (unsigned i = 0; i < pci->control.backend->queue_count; i++)
            virtio_control_queue_reroute(&pci->control, i);
    }
    /* What a queue's thread noted in between is in the ISR status. */
    set_wire(pci);
}

/* ---- what virtio_control asks for ---- */

static void queue_live(struct virtio_control *control, unsigned index, bool live)
{
    struct virtio_pci *pci = of_control(control);
    struct bus_doorbell *doorbell = &pci->queues[index].doorbell;

    if (!live) {
        if (doorbell->handle >= 0)
            bus_doorbell_remove(pci->bus, &pci->registers, doorbell);
        doorbell->handle = -1;
        return;
    }
    *doorbell = (struct bus_doorbell){
        .offset = pci->notify_offset + (uint64_t)index * VIRTIO_PCI_NOTIFY_BYTES,
        .size = 0, /* 2 bytes, or 4 with VIRTIO_F_NOTIFICATION_DATA */
        .handle = control->backend->class->queue_kick_handle(control->backend, index),
    };
    if (doorbell->handle >= 0)
        bus_doorbell_add(pci->bus, &pci->registers, doorbell);
}

static void queue_reset(struct virtio_control *control, unsigned index)
{
    atomic_store(&of_control(control)->queues[index].vector, VIRTIO_NO_VECTOR);
}

static void reset(struct virtio_control *control)
{
    struct virtio_pci *pci = of_control(control);

    pci->device_feature_select = 0;
    pci->driver_feature_select = 0;
    pci->queue_select = 0;
    pci->config_vector = VIRTIO_NO_VECTOR; /* 4.1.5.1.2.1 */
    set_wire(pci);
}

static const struct virtio_control_class control_class = {
    .name = "virtio-pci",
    .queue_interrupt = queue_interrupt,
    .config_interrupt = config_interrupt,
    .queue_vector = queue_vector,
    .queue_live = queue_live,
    .queue_reset = queue_reset,
    .reset = reset,
};

/* ---- what PCI asks for ---- */

static enum bus_result function_reset(struct pci_function *function)
{
    return virtio_control_reset(&of_function(function)->control) == 0 ? BUS_DONE : BUS_LATER;
}

static bool function_busy(const struct pci_function *function)
{
    return !virtio_control_is_settled(&of_function(function)->control);
}

static void function_bus_master(struct pci_function *function, bool on)
{
    virtio_control_cut_off(&of_function(function)->control, !on);
}

/* The guest has written to the control word of MSI-X, which has acted on it already. */
static enum bus_result msix_written(struct pci_capability *watch, struct pci_function *function, unsigned offset,
                                    unsigned size)
{
    (void)watch;
    (void)offset;
    (void)size;
    reroute(of_function(function));
    return BUS_DONE;
}

static void msix_reset(struct pci_capability *watch, struct pci_function *function)
{
    (void)watch;
    reroute(of_function(function));
}

static const struct pci_capability_class msix_watch_class = {
    .name = "virtio-pci",
    .written = msix_written,
    .reset = msix_reset,
};

#define PCI_RECORD_VERSION 1
#define PCI_RECORD_BYTES 12
#define QUEUE_RECORD_VERSION 1
#define QUEUE_RECORD_BYTES 4

static int save_records(const struct virtio_pci *pci, struct state_writer *writer)
{
    uint8_t record[PCI_RECORD_BYTES];

    put_le32(record, pci->device_feature_select);
    put_le32(record + 4, pci->driver_feature_select);
    put_le16(record + 8, pci->queue_select);
    put_le16(record + 10, pci->config_vector);
    int r = state_put(writer, VIRTIO_STATE_PCI, PCI_RECORD_VERSION, record, sizeof(record));
    for (uint16_t i = 0; i < pci->control.backend->queue_count && r == 0; i++) {
        uint8_t queue_record[QUEUE_RECORD_BYTES];
        put_le16(queue_record, i);
        put_le16(queue_record + 2, atomic_load(&pci->queues[i].vector));
        r = state_put(writer, VIRTIO_STATE_PCI_QUEUE, QUEUE_RECORD_VERSION, queue_record, sizeof(queue_record));
    }
    return r < 0 ? r : virtio_control_save(&pci->control, writer);
}

static int function_save(const struct pci_function *function, struct state_writer *writer)
{
    size_t used = writer->used;
    int r = save_records(of_function(function), writer);

    if (r < 0)
        writer->used = used;
    return r;
}

/* The next record, which has to be this one. */
static int expect(struct state_reader *reader, uint32_t tag, uint16_t version, uint32_t length,
                  struct state_record *ret_record)
{
    int r = state_next(reader, ret_record);

    if (r <= 0 || ret_record->tag != tag)
        return -EBADMSG;
    if (ret_record->version > version)
        return -ENOTSUP;
    return ret_record->length == length ? 0 : -EBADMSG;
}

static uint16_t valid_vector(const struct virtio_pci *pci, uint16_t vector)
{
    return pci->has_msix && vector < pci->msix.count ? vector : VIRTIO_NO_VECTOR;
}

static int function_load(struct pci_function *function, struct state_reader *reader)
{
    struct virtio_pci *pci = of_function(function);
    struct state_record record;

    int r = expect(reader, VIRTIO_STATE_PCI, PCI_RECORD_VERSION, PCI_RECORD_BYTES, &record);
    if (r < 0)
        return r;
    pci->device_feature_select = get_le32(record.payload);
    pci->driver_feature_select = get_le32(record.payload + 4);
    pci->queue_select = get_le16(record.payload + 8);
    pci->config_vector = valid_vector(pci, get_le16(record.payload + 10));
    for (uint16_t i = 0; i < pci->control.backend->queue_count; i++) {
        r = expect(reader, VIRTIO_STATE_PCI_QUEUE, QUEUE_RECORD_VERSION, QUEUE_RECORD_BYTES, &record);
        if (r < 0)
            return r;
        if (get_le16(record.payload) != i)
            return -EBADMSG;
        atomic_store(&pci->queues[i].vector, valid_vector(pci, get_le16(record.payload + 2)));
    }
    r = virtio_control_load(&pci->control, reader);
    if (r < 0)
        return r;
    reroute(pci);
    return 0;
}

static const struct pci_function_class function_class = {
    .name = "virtio-pci",
    .reset = function_reset,
    .busy = function_busy,
    .bus_master = function_bus_master,
    .save = function_save,
    .load = function_load,
};

/* ---- vectors (4.1.5.1.2) ---- */

void virtio_pci_set_config_vector(struct virtio_pci *pci, uint16_t vector)
{
    if (!pci->control.resetting)
        pci->config_vector = valid_vector(pci, vector);
}

void virtio_pci_set_queue_vector(struct virtio_pci *pci, uint16_t index, uint16_t vector)
{
    const struct virtio_control_queue *queue = virtio_control_queue(&pci->control, index);

    if (pci->control.resetting || queue == NULL)
        return;
    atomic_store(&pci->queues[queue - pci->control.queues].vector, valid_vector(pci, vector));
    virtio_control_queue_reroute(&pci->control, index);
}

/* ---- how it is made ---- */

static uint32_t class_code_of(uint16_t device_id)
{
    switch (device_id) {
    case VIRTIO_ID_NET:
        return 0x020000; /* Ethernet */
    case VIRTIO_ID_BLOCK:
        return 0x018000; /* mass storage, other */
    case VIRTIO_ID_CONSOLE:
        return 0x078000; /* simple communication, other */
    default:
        return 0xff0000; /* of no class */
    }
}

static uint64_t power_of_two_above(uint64_t bytes)
{
    uint64_t size = VIRTIO_PCI_PAGE;

    while (size < bytes)
        size *= 2;
    return size;
}

static int add_registers(struct virtio_pci *pci, const struct virtio_pci_config *config)
{
    uint32_t table = VIRTIO_PCI_PAGE * VIRTIO_PCI_PAGE_TABLE;
    uint32_t notify_bytes = pci->control.backend->queue_count * VIRTIO_PCI_NOTIFY_BYTES;

    if (config->vector_count > PCI_MSIX_VECTORS_MAX)
        return -EINVAL;
    pci->notify_offset = (uint32_t)align_up(table + pci_msix_table_bytes(config->vector_count), VIRTIO_PCI_PAGE);
    pci->registers.class = &virtio_pci_registers_class;
    pci->registers_bytes = power_of_two_above((uint64_t)pci->notify_offset + notify_bytes);
    int r = pci_function_add_bar(&pci->function, VIRTIO_PCI_BAR_REGISTERS, PCI_BAR_MEMORY_64, false,
                                 pci->registers_bytes, &pci->registers);
    if (r < 0 || config->vector_count == 0)
        return r;
    r = pci_msix_init(&pci->msix, &pci->function, config->msix_port, config->vectors, config->vector_count,
                      VIRTIO_PCI_BAR_REGISTERS, table, VIRTIO_PCI_PAGE * VIRTIO_PCI_PAGE_PENDING);
    if (r < 0)
        return r;
    pci->has_msix = true;
    pci->msix_watch.class = &msix_watch_class;
    pci_function_watch(&pci->function, &pci->msix_watch, pci->msix.capability.offset, pci->msix.capability.size);
    return 0;
}

/* The regions lie one behind the other in BAR 2; virtio_pci_capabilities shows them to the driver. */
static int add_shared(struct virtio_pci *pci, uint64_t page_bytes)
{
    const struct virtio_backend *backend = pci->control.backend;
    struct virtio_shared_region region;
    uint64_t offset = 0;

    if (backend->class->shared_region == NULL)
        return 0;
    for (unsigned i = 0; backend->class->shared_region(backend, i, &region) == 0; i++) {
        if (i == VIRTIO_PCI_SHARED_MAX)
            return -ENOSPC;
        struct bus_memory *memory = &pci->shared_memories[i];
        *memory = (struct bus_memory){.offset = offset, .size = align_up(region.size, page_bytes), .host = region.host};
        int r = virtio_pci_add_shared_capability(pci, i, &region, offset);
        if (r < 0)
            return r;
        offset += memory->size;
        pci->shared_count = i + 1;
    }
    if (offset == 0)
        return 0;
    pci->shared_bytes = power_of_two_above(offset);
    int r = pci_function_add_bar(&pci->function, VIRTIO_PCI_BAR_SHARED, PCI_BAR_MEMORY_64, true, pci->shared_bytes,
                                 &pci->shared.device);
    for (unsigned i = 0; i < pci->shared_count && r == 0; i++)
        if (pci->shared_memories[i].host != NULL)
            r = bus_memory_add(pci->bus, &pci->shared.device, &pci->shared_memories[i]);
    return r;
}

int virtio_pci_init(struct virtio_pci *pci, const struct virtio_pci_config *config)
{
    struct virtio_backend *backend = config->control.backend;
    struct pci_identity identity = {
        .vendor = VIRTIO_PCI_VENDOR,
        .device = (uint16_t)(VIRTIO_PCI_DEVICE_BASE + backend->device_id),
        .subsystem_vendor = VIRTIO_PCI_VENDOR,
        .subsystem = (uint16_t)(VIRTIO_PCI_DEVICE_BASE + backend->device_id),
        .class_code = class_code_of(backend->device_id),
        .revision = VIRTIO_PCI_REVISION,
        .pin = 1,
    };

    ASSERT(is_power_of_two(config->shared_page_bytes));
    *pci = (struct virtio_pci){.bus = config->bus, .queues = config->queues, .config_vector = VIRTIO_NO_VECTOR};
    for (unsigned i = 0; i < backend->queue_count; i++) {
        pci->queues[i].doorbell = (struct bus_doorbell){.handle = -1};
        atomic_init(&pci->queues[i].vector, VIRTIO_NO_VECTOR);
    }
    virtio_control_init(&pci->control, &control_class, &config->control);
    virtio_control_cut_off(&pci->control, true); /* until it is a bus master */
    bus_window_init(&pci->shared);

    pci_function_init(&pci->function, &function_class, &identity);
    int r = add_registers(pci, config);
    if (r == 0)
        r = virtio_pci_add_capabilities(pci);
    if (r == 0)
        r = add_shared(pci, config->shared_page_bytes);
    if (r == 0)
        r = pci_function_add_power(&pci->function, &pci->power);
    if (r < 0)
        return r;
    /* A function without it is one of conventional PCI; several shared memory regions may need its room. */
    r = pci_function_add_express(&pci->function, &pci->express, config->integrated, true);
    return r == -ENOSPC && pci->shared_count > 1 ? 0 : r;
}
