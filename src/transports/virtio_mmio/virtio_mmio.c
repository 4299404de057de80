/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * Registers are read and written as the driver selects; everything that has a life is virtio_control's. A driver polls
 * neither after a reset nor after it took a queue away (Linux does not, and 4.2.2.2 has it read QueueReady once), so
 * both writes answer BUS_LATER, and the guest goes on when they are done. A queue reset is polled (4.2.2.2).
 *
 * A kick is a write of the queue's index to QueueNotify: one doorbell a queue, told apart by the value. With
 * VIRTIO_F_NOTIFICATION_DATA the value says more than that, and every kick is an exit.
 *
 * An interrupt sets its bit in InterruptStatus first, and then the line. As an edge it needs no lock, so it comes
 * straight from a queue's thread: each event is an edge, whether or not the driver has seen the last one. As a level it
 * is set and lowered by the machine's thread alone.
 *
 * Limits
 *
 * Registers answer aligned accesses of 32 bits, which 4.2.2.2 demands of the driver; others read 0 and write nothing.
 * There is no legacy interface (4.2.4), and no more than VIRTIO_MMIO_SHARED_MAX shared memory regions.
 */
#include "transports/virtio_mmio/virtio_mmio.h"

#include <errno.h>

#include "transports/virtio_mmio/virtio_mmio_regs.h"

/* VendorID (4.2.2): "BKPL". */
#define VENDOR_ID 0x4c504b42u

/* The size of each write that a doorbell catches. */
#define REGISTER_BYTES 4

static struct virtio_mmio *of_device(const struct bus_device *device)
{
    return container_of((uintptr_t)device, struct virtio_mmio, device);
}

static struct virtio_mmio *of_control(const struct virtio_control *control)
{
    return container_of((uintptr_t)control, struct virtio_mmio, control);
}

/* ---- interrupts ---- */

static void set_level(struct virtio_mmio *mmio)
{
    irq_line_set(mmio->line, atomic_load(&mmio->control.interrupt_status) != 0);
}

static void interrupt(struct virtio_mmio *mmio, uint32_t event, bool here)
{
    atomic_fetch_or(&mmio->control.interrupt_status, event);
    if (!mmio->level)
        irq_line_pulse(mmio->line);
    else if (here)
        set_level(mmio);
}

static void queue_interrupt(struct virtio_control *control, unsigned index, bool here)
{
    (void)index; /* 4.2.3.4: one line and one bit for all of them */
    interrupt(of_control(control), VIRTIO_INTERRUPT_QUEUE, here);
}

static void config_interrupt(struct virtio_control *control)
{
    interrupt(of_control(control), VIRTIO_INTERRUPT_CONFIG, true);
}

static uint16_t queue_vector(const struct virtio_control *control, unsigned index)
{
    (void)control;
    (void)index;
    return VIRTIO_NO_VECTOR;
}

static void acknowledge(struct virtio_mmio *mmio, uint32_t events)
{
    atomic_fetch_and(&mmio->control.interrupt_status, ~events);
    if (mmio->level)
        set_level(mmio);
}

/* ---- queues ---- */

static void queue_live(struct virtio_control *control, unsigned index, bool live)
{
    struct virtio_mmio *mmio = of_control(control);
    struct bus_doorbell *doorbell = &mmio->doorbells[index];

    if (!live) {
        if (doorbell->handle >= 0)
            bus_doorbell_remove(mmio->bus, &mmio->device, doorbell);
        doorbell->handle = -1;
        return;
    }
    if (virtio_control_has(control, VIRTIO_F_NOTIFICATION_DATA))
        return;
    *doorbell = (struct bus_doorbell){
        .offset = VIRTIO_MMIO_QUEUE_NOTIFY,
        .size = REGISTER_BYTES,
        .by_value = true,
        .value = index,
        .handle = control->backend->class->queue_kick_handle(control->backend, index),
    };
    if (doorbell->handle >= 0)
        bus_doorbell_add(mmio->bus, &mmio->device, doorbell);
}

static void notify(struct virtio_mmio *mmio, uint32_t value)
{
    /* 4.2.3.3: the upper half is then where the driver is in the ring, which the ring says as well. */
    bool data = virtio_control_has(&mmio->control, VIRTIO_F_NOTIFICATION_DATA);

    virtio_control_queue_kick(&mmio->control, data ? value & 0xffff : value);
}

static void reset(struct virtio_control *control)
{
    struct virtio_mmio *mmio = of_control(control);

    mmio->device_features_select = 0;
    mmio->driver_features_select = 0;
    mmio->queue_select = 0;
    mmio->shared_select = 0;
    if (mmio->level)
        set_level(mmio);
}

static const struct virtio_control_class control_class = {
    .name = "virtio-mmio",
    .queue_interrupt = queue_interrupt,
    .config_interrupt = config_interrupt,
    .queue_vector = queue_vector,
    .queue_live = queue_live,
    .reset = reset,
};

/* ---- registers ---- */

static uint64_t shared_length(const struct virtio_mmio *mmio)
{
    for (unsigned i = 0; i < mmio->shared_count && mmio->shared_placed; i++)
        if (mmio->shared_ids[i] == mmio->shared_select)
            return mmio->shared_sizes[i];
    return VIRTIO_MMIO_SHM_NONE;
}

static uint64_t shared_base(const struct virtio_mmio *mmio)
{
    for (unsigned i = 0; i < mmio->shared_count && mmio->shared_placed; i++)
        if (mmio->shared_ids[i] == mmio->shared_select)
            return mmio->shared_base + mmio->shared_memories[i].offset;
    return VIRTIO_MMIO_SHM_NONE;
}

static uint32_t read_queue_register(const struct virtio_mmio *mmio, uint64_t offset)
{
    const struct virtio_control_queue *queue = virtio_control_queue(&mmio->control, mmio->queue_select);

    if (queue == NULL)
        return 0;
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_SIZE_MAX:
        return mmio->control.backend->queue_size_max;
    case VIRTIO_MMIO_QUEUE_READY:
        return queue->enabled;
    default: /* VIRTIO_MMIO_QUEUE_RESET */
        return queue->ending && virtio_control_has(&mmio->control, VIRTIO_F_RING_RESET);
    }
}

static uint32_t read_register(struct virtio_mmio *mmio, uint64_t offset)
{
    struct virtio_control *control = &mmio->control;

    switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE:
        return VIRTIO_MMIO_MAGIC;
    case VIRTIO_MMIO_VERSION:
        return VIRTIO_MMIO_VERSION_MODERN;
    case VIRTIO_MMIO_DEVICE_ID:
        return control->backend->device_id;
    case VIRTIO_MMIO_VENDOR_ID:
        return VENDOR_ID;
    case VIRTIO_MMIO_DEVICE_FEATURES:
        return virtio_control_device_features(control, mmio->device_features_select);
    case VIRTIO_MMIO_QUEUE_SIZE_MAX:
    case VIRTIO_MMIO_QUEUE_READY:
    case VIRTIO_MMIO_QUEUE_RESET:
        return read_queue_register(mmio, offset);
    case VIRTIO_MMIO_INTERRUPT_STATUS:
        return atomic_load(&control->interrupt_status);
    case VIRTIO_MMIO_STATUS:
        return control->status;
    case VIRTIO_MMIO_SHM_LEN_LOW:
        return (uint32_t)shared_length(mmio);
    case VIRTIO_MMIO_SHM_LEN_HIGH:
        return (uint32_t)(shared_length(mmio) >> 32);
    case VIRTIO_MMIO_SHM_BASE_LOW:
        return (uint32_t)shared_base(mmio);
    case VIRTIO_MMIO_SHM_BASE_HIGH:
        return (uint32_t)(shared_base(mmio) >> 32);
    case VIRTIO_MMIO_CONFIG_GENERATION:
        return virtio_control_config_generation(control);
    default:
        return 0;
    }
}

static void write_queue_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    struct virtio_control *control = &mmio->control;
    uint32_t index = mmio->queue_select;

    switch (offset) {
    case VIRTIO_MMIO_QUEUE_SIZE:
        virtio_control_queue_set_size(control, index, value);
        break;
    case VIRTIO_MMIO_QUEUE_READY:
        if (value == 1)
            virtio_control_queue_enable(control, index);
        else if (value == 0)
            virtio_control_queue_disable(control, index);
        break;
    case VIRTIO_MMIO_QUEUE_RESET:
        if (value == 1 && virtio_control_has(control, VIRTIO_F_RING_RESET))
            virtio_control_queue_reset(control, index);
        break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        virtio_control_queue_set_address(control, index, VIRTIO_CONTROL_DESC, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH,
                                         value);
        break;
    case VIRTIO_MMIO_QUEUE_DRIVER_LOW:
    case VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
        virtio_control_queue_set_address(control, index, VIRTIO_CONTROL_DRIVER, offset == VIRTIO_MMIO_QUEUE_DRIVER_HIGH,
                                         value);
        break;
    case VIRTIO_MMIO_QUEUE_DEVICE_LOW:
    case VIRTIO_MMIO_QUEUE_DEVICE_HIGH:
        virtio_control_queue_set_address(control, index, VIRTIO_CONTROL_DEVICE, offset == VIRTIO_MMIO_QUEUE_DEVICE_HIGH,
                                         value);
        break;
    default:
        break;
    }
}

static void write_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    struct virtio_control *control = &mmio->control;

    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        mmio->device_features_select = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        mmio->driver_features_select = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        virtio_control_set_driver_features(control, mmio->driver_features_select, value);
        break;
    case VIRTIO_MMIO_QUEUE_SEL:
        mmio->queue_select = value;
        break;
    case VIRTIO_MMIO_QUEUE_NOTIFY:
        notify(mmio, value);
        break;
    case VIRTIO_MMIO_INTERRUPT_ACK:
        acknowledge(mmio, value);
        break;
    case VIRTIO_MMIO_STATUS:
        if (value <= UINT8_MAX)
            virtio_control_set_status(control, (uint8_t)value);
        break;
    case VIRTIO_MMIO_SHM_SEL:
        mmio->shared_select = value;
        break;
    default:
        write_queue_register(mmio, offset, value);
        break;
    }
}

static enum bus_result mmio_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    struct virtio_mmio *mmio = of_device(device);

    if (offset >= VIRTIO_MMIO_CONFIG) {
        uint8_t bytes[8] = {0};
        virtio_control_config_read(&mmio->control, offset - VIRTIO_MMIO_CONFIG, bytes, size);
        *ret_value = get_le64(bytes);
    } else if (size == REGISTER_BYTES && is_aligned(offset, REGISTER_BYTES)) {
        *ret_value = read_register(mmio, offset);
    }
    return BUS_DONE;
}

static enum bus_result mmio_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_mmio *mmio = of_device(device);

    if (offset >= VIRTIO_MMIO_CONFIG) {
        uint8_t bytes[8];
        put_le64(bytes, value);
        virtio_control_config_write(&mmio->control, offset - VIRTIO_MMIO_CONFIG, bytes, size);
        return BUS_DONE;
    }
    if (size != REGISTER_BYTES || !is_aligned(offset, REGISTER_BYTES))
        return BUS_DONE;
    write_register(mmio, offset, (uint32_t)value);
    bool waits = (offset == VIRTIO_MMIO_STATUS || offset == VIRTIO_MMIO_QUEUE_READY) && value == 0;
    return waits && !virtio_control_is_settled(&mmio->control) ? BUS_LATER : BUS_DONE;
}

static bool mmio_busy(const struct bus_device *device)
{
    return !virtio_control_is_settled(&of_device(device)->control);
}

static const struct bus_device_class device_class = {
    .name = "virtio-mmio",
    .read = mmio_read,
    .write = mmio_write,
    .busy = mmio_busy,
};

/* ---- shared memory ---- */

static void find_shared(struct virtio_mmio *mmio)
{
    const struct virtio_backend *backend = mmio->control.backend;
    struct virtio_shared_region region;

    if (backend->class->shared_region == NULL)
        return;
    while (mmio->shared_count < VIRTIO_MMIO_SHARED_MAX &&
           backend->class->shared_region(backend, mmio->shared_count, &region) == 0) {
        mmio->shared_ids[mmio->shared_count] = region.id;
        mmio->shared_sizes[mmio->shared_count] = region.size;
        mmio->shared_memories[mmio->shared_count++] = (struct bus_memory){.host = region.host};
    }
}

uint64_t virtio_mmio_shared_bytes(const struct virtio_mmio *mmio, uint64_t page_bytes)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < mmio->shared_count; i++)
        bytes += align_up(mmio->shared_sizes[i], page_bytes);
    return bytes;
}

int virtio_mmio_place_shared(struct virtio_mmio *mmio, uint64_t base, uint64_t page_bytes)
{
    uint64_t bytes = virtio_mmio_shared_bytes(mmio, page_bytes);
    uint64_t offset = 0;
    int r;

    ASSERT(!mmio->shared_placed && bytes > 0);
    r = bus_add(mmio->bus, base, bytes, &mmio->shared.device);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < mmio->shared_count; i++) {
        struct bus_memory *memory = &mmio->shared_memories[i];
        memory->offset = offset;
        memory->size = align_up(mmio->shared_sizes[i], page_bytes);
        offset += memory->size;
        r = memory->host != NULL ? bus_memory_add(mmio->bus, &mmio->shared.device, memory) : 0;
        if (r < 0)
            break;
    }
    mmio->shared_base = base;
    mmio->shared_placed = true;
    if (r < 0)
        virtio_mmio_remove_shared(mmio);
    return r;
}

void virtio_mmio_remove_shared(struct virtio_mmio *mmio)
{
    while (mmio->shared.device.memories != NULL)
        bus_memory_remove(mmio->bus, &mmio->shared.device, mmio->shared.device.memories);
    (void)bus_remove(mmio->bus, &mmio->shared.device);
    mmio->shared_placed = false;
}

/* ---- the owner ---- */

void virtio_mmio_init(struct virtio_mmio *mmio, const struct virtio_mmio_config *config)
{
    struct virtio_control_config control = config->control;

    *mmio = (struct virtio_mmio){
        .device.class = &device_class,
        .bus = config->bus,
        .line = config->line,
        .level = config->level,
        .doorbells = config->doorbells,
    };
    control.features_added &= ~VIRTIO_F_NOTIF_CONFIG_DATA;
    virtio_control_init(&mmio->control, &control_class, &control);
    for (unsigned i = 0; i < control.backend->queue_count; i++)
        mmio->doorbells[i] = (struct bus_doorbell){.handle = -1};
    bus_window_init(&mmio->shared);
    find_shared(mmio);
}

#define MMIO_RECORD_VERSION 1
#define MMIO_RECORD_BYTES 16

int virtio_mmio_save(const struct virtio_mmio *mmio, struct state_writer *writer)
{
    uint8_t record[MMIO_RECORD_BYTES];
    size_t used = writer->used;

    put_le32(record, mmio->device_features_select);
    put_le32(record + 4, mmio->driver_features_select);
    put_le32(record + 8, mmio->queue_select);
    put_le32(record + 12, mmio->shared_select);
    int r = state_put(writer, VIRTIO_STATE_MMIO, MMIO_RECORD_VERSION, record, sizeof(record));
    if (r == 0)
        r = virtio_control_save(&mmio->control, writer);
    if (r < 0)
        writer->used = used;
    return r;
}

int virtio_mmio_load(struct virtio_mmio *mmio, struct state_reader *reader)
{
    struct state_record record;

    int r = state_next(reader, &record);
    if (r < 0 || (r > 0 && record.version > MMIO_RECORD_VERSION))
        return r < 0 ? r : -ENOTSUP;
    if (r == 0 || record.tag != VIRTIO_STATE_MMIO || record.length != MMIO_RECORD_BYTES)
        return -EBADMSG;
    mmio->device_features_select = get_le32(record.payload);
    mmio->driver_features_select = get_le32(record.payload + 4);
    mmio->queue_select = get_le32(record.payload + 8);
    mmio->shared_select = get_le32(record.payload + 12);
    r = virtio_control_load(&mmio->control, reader);
    if (r < 0)
        return r;
    if (mmio->level)
        set_level(mmio);
    return 0;
}
