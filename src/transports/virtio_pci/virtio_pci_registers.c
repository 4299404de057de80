/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* BAR 0: the common configuration (4.1.4.3), and who answers for the other parts. */
#include "transports/virtio_pci/virtio_pci_private.h"

#define FIELD(name) offsetof(struct virtio_pci_common_cfg, name)

static struct virtio_pci *of_registers(struct bus_device *device)
{
    return container_of(device, struct virtio_pci, registers);
}

/* 4.1.3.1: the one size of access that is right at @offset; 0: none. */
static unsigned field_bytes(uint64_t offset)
{
    switch (offset) {
    case FIELD(device_feature_select):
    case FIELD(device_feature):
    case FIELD(driver_feature_select):
    case FIELD(driver_feature):
    case FIELD(queue_desc):
    case FIELD(queue_desc) + 4:
    case FIELD(queue_driver):
    case FIELD(queue_driver) + 4:
    case FIELD(queue_device):
    case FIELD(queue_device) + 4:
        return 4;
    case FIELD(device_status):
    case FIELD(config_generation):
        return 1;
    default:
        return offset < sizeof(struct virtio_pci_common_cfg) && is_aligned(offset, 2) ? 2 : 0;
    }
}

static uint32_t half(uint64_t value, bool upper)
{
    return (uint32_t)(upper ? value >> 32 : value);
}

static uint32_t read_queue_field(const struct virtio_pci *pci, uint64_t offset)
{
    const struct virtio_control *control = &pci->control;
    const struct virtio_control_queue *queue = virtio_control_queue(control, pci->queue_select);

    if (queue == NULL) /* 4.1.4.3.1: queue_size is 0 then */
        return offset == FIELD(queue_msix_vector) ? VIRTIO_NO_VECTOR : 0;
    unsigned index = (unsigned)(queue - control->queues);
    switch (offset) {
    case FIELD(queue_size):
        return queue->size;
    case FIELD(queue_msix_vector):
        return atomic_load(&pci->queues[index].vector);
    case FIELD(queue_enable):
        return queue->enabled;
    case FIELD(queue_notify_off):
        return index;
    case FIELD(queue_desc):
    case FIELD(queue_desc) + 4:
        return half(queue->desc_address, offset != FIELD(queue_desc));
    case FIELD(queue_driver):
    case FIELD(queue_driver) + 4:
        return half(queue->driver_address, offset != FIELD(queue_driver));
    case FIELD(queue_device):
    case FIELD(queue_device) + 4:
        return half(queue->device_address, offset != FIELD(queue_device));
    case FIELD(queue_notif_config_data):
        return virtio_control_has(control, VIRTIO_F_NOTIF_CONFIG_DATA) ? index : 0;
    case FIELD(queue_reset):
        return queue->ending && virtio_control_has(control, VIRTIO_F_RING_RESET);
    default:
        return 0;
    }
}

static uint32_t read_common(struct virtio_pci *pci, uint64_t offset)
{
    struct virtio_control *control = &pci->control;

    switch (offset) {
    case FIELD(device_feature_select):
        return pci->device_feature_select;
    case FIELD(device_feature):
        return virtio_control_device_features(control, pci->device_feature_select);
    case FIELD(driver_feature_select):
        return pci->driver_feature_select;
    case FIELD(driver_feature):
        return virtio_control_driver_features(control, pci->driver_feature_select);
    case FIELD(config_msix_vector):
        return pci->config_vector;
    case FIELD(num_queues):
        return control->backend->queue_count;
    case FIELD(device_status):
        return control->status;
    case FIELD(config_generation):
        return (uint8_t)virtio_control_config_generation(control);
    case FIELD(queue_select):
        return pci->queue_select;
    default:
        return read_queue_field(pci, offset);
    }
}

static void write_queue_field(struct virtio_pci *pci, uint64_t offset, uint32_t value)
{
    struct virtio_control *control = &pci->control;
    uint16_t index = pci->queue_select;

    switch (offset) {
    case FIELD(queue_size):
        virtio_control_queue_set_size(control, index, value);
        break;
    case FIELD(queue_msix_vector):
        virtio_pci_set_queue_vector(pci, index, (uint16_t)value);
        break;
    case FIELD(queue_enable):
        if (value == 1) /* 4.1.4.3.2: the driver never writes 0 */
            virtio_control_queue_enable(control, index);
        break;
    case FIELD(queue_desc):
    case FIELD(queue_desc) + 4:
        virtio_control_queue_set_address(control, index, VIRTIO_CONTROL_DESC, offset != FIELD(queue_desc), value);
        break;
    case FIELD(queue_driver):
    case FIELD(queue_driver) + 4:
        virtio_control_queue_set_address(control, index, VIRTIO_CONTROL_DRIVER, offset != FIELD(queue_driver), value);
        break;
    case FIELD(queue_device):
    case FIELD(queue_device) + 4:
        virtio_control_queue_set_address(control, index, VIRTIO_CONTROL_DEVICE, offset != FIELD(queue_device), value);
        break;
    case FIELD(queue_reset):
        if (value == 1 && virtio_control_has(control, VIRTIO_F_RING_RESET))
            virtio_control_queue_reset(control, index);
        break;
    default:
        break;
    }
}

static void write_common(struct virtio_pci *pci, uint64_t offset, uint32_t value)
{
    struct virtio_control *control = &pci->control;

    switch (offset) {
    case FIELD(device_feature_select):
        pci->device_feature_select = value;
        break;
    case FIELD(driver_feature_select):
        pci->driver_feature_select = value;
        break;
    case FIELD(driver_feature):
        virtio_control_set_driver_features(control, pci->driver_feature_select, value);
        break;
    case FIELD(config_msix_vector):
        virtio_pci_set_config_vector(pci, (uint16_t)value);
        break;
    case FIELD(device_status):
        virtio_control_set_status(control, (uint8_t)value);
        break;
    case FIELD(queue_select):
        pci->queue_select = (uint16_t)value;
        break;
    default:
        write_queue_field(pci, offset, value);
        break;
    }
}

static void notify(struct virtio_pci *pci, uint64_t offset)
{
    uint64_t index = offset / VIRTIO_PCI_NOTIFY_BYTES;

    /* 4.1.4.4: the address says which queue; one that is not there is ignored. */
    if (is_aligned(offset, VIRTIO_PCI_NOTIFY_BYTES) && index <= UINT16_MAX)
        virtio_control_queue_kick(&pci->control, (uint32_t)index);
}

static enum bus_result registers_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    struct virtio_pci *pci = of_registers(device);
    uint64_t inside = offset % VIRTIO_PCI_PAGE;

    switch (offset / VIRTIO_PCI_PAGE) {
    case VIRTIO_PCI_PAGE_COMMON:
        if (size == field_bytes(inside))
            *ret_value = read_common(pci, inside);
        break;
    case VIRTIO_PCI_PAGE_ISR:
        if (inside == 0 && size == 1)
            *ret_value = virtio_pci_read_isr(pci);
        break;
    case VIRTIO_PCI_PAGE_DEVICE: {
        uint8_t bytes[8] = {0};
        virtio_control_config_read(&pci->control, inside, bytes, size);
        *ret_value = get_le64(bytes);
        break;
    }
    default:
        if (pci->has_msix && pci_msix_covers(&pci->msix, offset))
            pci_msix_read(&pci->msix, offset, size, ret_value);
        break;
    }
    return BUS_DONE;
}

static enum bus_result registers_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_pci *pci = of_registers(device);
    uint64_t inside = offset % VIRTIO_PCI_PAGE;

    if (offset >= pci->notify_offset) {
        notify(pci, offset - pci->notify_offset);
        return BUS_DONE;
    }
    switch (offset / VIRTIO_PCI_PAGE) {
    case VIRTIO_PCI_PAGE_COMMON:
        if (size == field_bytes(inside))
            write_common(pci, inside, (uint32_t)value);
        break;
    case VIRTIO_PCI_PAGE_ISR:
        break;
    case VIRTIO_PCI_PAGE_DEVICE: {
        uint8_t bytes[8];
        put_le64(bytes, value);
        virtio_control_config_write(&pci->control, inside, bytes, size);
        break;
    }
    default:
        if (pci->has_msix && pci_msix_covers(&pci->msix, offset))
            pci_msix_write(&pci->msix, offset, size, value);
        break;
    }
    return BUS_DONE;
}

const struct bus_device_class virtio_pci_registers_class = {
    .name = "virtio-pci",
    .read = registers_read,
    .write = registers_write,
};
