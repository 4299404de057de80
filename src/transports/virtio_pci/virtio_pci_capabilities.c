/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The capabilities of 4.1.4, and the window of 4.1.4.9 that reaches the BARs through configuration space. */
#include "transports/virtio_pci/virtio_pci_private.h"

/* Bytes in front of what pci_function_add_capability is given: id and link. */
#define CAPABILITY_HEAD_BYTES 2

static struct virtio_pci_cap make_cap(unsigned bytes, enum virtio_pci_cfg_type type, uint8_t bar, uint32_t offset,
                                      uint32_t length)
{
    return (struct virtio_pci_cap){
        .cap_len = (uint8_t)bytes,
        .cfg_type = (uint8_t)type,
        .bar = bar,
        .offset = cpu_to_le32(offset),
        .length = cpu_to_le32(length),
    };
}

static int add(struct virtio_pci *pci, struct pci_capability *capability, const void *structure, unsigned bytes)
{
    return pci_function_add_capability(&pci->function, capability, PCI_CAPABILITY_VENDOR,
                                       (const uint8_t *)structure + CAPABILITY_HEAD_BYTES, bytes);
}

static int add_plain(struct virtio_pci *pci, struct pci_capability *capability, enum virtio_pci_cfg_type type,
                     uint32_t page, uint32_t length)
{
    struct virtio_pci_cap cap = make_cap(sizeof(cap), type, VIRTIO_PCI_BAR_REGISTERS, page * VIRTIO_PCI_PAGE, length);

    return add(pci, capability, &cap, sizeof(cap));
}

static int add_notify(struct virtio_pci *pci)
{
    struct virtio_pci_notify_cap notify = {
        .cap = make_cap(sizeof(notify), VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_PCI_BAR_REGISTERS, pci->notify_offset,
                        pci->control.backend->queue_count * VIRTIO_PCI_NOTIFY_BYTES),
        .notify_off_multiplier = cpu_to_le32(VIRTIO_PCI_NOTIFY_BYTES),
    };

    return add(pci, &pci->notify, &notify, sizeof(notify));
}

/* ---- the window ---- */

#define WINDOW(field) offsetof(struct virtio_pci_cfg_cap, field)

static struct virtio_pci *of_window(struct pci_capability *window)
{
    return container_of(window, struct virtio_pci, window);
}

/* Does an access of @size at @offset of the configuration space touch the data? */
static bool touches_data(const struct pci_capability *window, unsigned offset, unsigned size)
{
    unsigned data = window->offset + (unsigned)WINDOW(pci_cfg_data);

    return offset < data + sizeof(((struct virtio_pci_cfg_cap *)NULL)->pci_cfg_data) && offset + size > data;
}

/* Where the window is: NULL when it is nowhere, because the driver has set it badly. */
static struct bus_device *window_target(struct virtio_pci *pci, uint64_t *ret_offset, unsigned *ret_length)
{
    unsigned at = pci->window.offset;
    uint32_t bar = pci_function_get(&pci->function, at + (unsigned)WINDOW(cap.bar), 1);
    uint32_t offset = pci_function_get(&pci->function, at + (unsigned)WINDOW(cap.offset), 4);
    uint32_t length = pci_function_get(&pci->function, at + (unsigned)WINDOW(cap.length), 4);

    if ((length != 1 && length != 2 && length != 4) || !is_aligned(offset, length))
        return NULL;
    *ret_offset = offset;
    *ret_length = length;
    if (bar == VIRTIO_PCI_BAR_REGISTERS && range_within(offset, length, pci->registers_bytes))
        return &pci->registers;
    if (bar == VIRTIO_PCI_BAR_SHARED && range_within(offset, length, pci->shared_bytes))
        return &pci->shared.device;
    return NULL;
}

static enum bus_result window_read(struct pci_capability *window, struct pci_function *function, unsigned offset,
                                   unsigned size)
{
    uint64_t target_offset, value = 0;
    unsigned length;

    if (!touches_data(window, offset, size))
        return BUS_DONE;
    struct bus_device *target = window_target(of_window(window), &target_offset, &length);
    if (target == NULL)
        return BUS_DONE;
    enum bus_result result = target->class->read(target, target_offset, length, &value);
    pci_function_put(function, window->offset + (unsigned)WINDOW(pci_cfg_data), length, (uint32_t)value);
    return result;
}

static enum bus_result window_written(struct pci_capability *window, struct pci_function *function, unsigned offset,
                                      unsigned size)
{
    uint64_t target_offset;
    unsigned length;

    if (!touches_data(window, offset, size))
        return BUS_DONE;
    struct bus_device *target = window_target(of_window(window), &target_offset, &length);
    if (target == NULL)
        return BUS_DONE;
    uint32_t value = pci_function_get(function, window->offset + (unsigned)WINDOW(pci_cfg_data), length);
    return target->class->write(target, target_offset, length, value);
}

static const struct pci_capability_class window_class = {
    .name = "virtio window",
    .read = window_read,
    .written = window_written,
};

static int add_window(struct virtio_pci *pci)
{
    struct virtio_pci_cfg_cap window = {.cap = make_cap(sizeof(window), VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 0)};

    pci->window.class = &window_class;
    int r = add(pci, &pci->window, &window, sizeof(window));
    if (r < 0)
        return r;
    unsigned at = pci->window.offset;
    pci_function_set_writable(&pci->function, at + (unsigned)WINDOW(cap.bar), 1, UINT8_MAX);
    pci_function_set_writable(&pci->function, at + (unsigned)WINDOW(cap.offset), 4, UINT32_MAX);
    pci_function_set_writable(&pci->function, at + (unsigned)WINDOW(cap.length), 4, UINT32_MAX);
    pci_function_set_writable(&pci->function, at + (unsigned)WINDOW(pci_cfg_data), 4, UINT32_MAX);
    return 0;
}

int virtio_pci_add_capabilities(struct virtio_pci *pci)
{
    uint32_t config_bytes = u32_min(pci->control.backend->config_bytes, VIRTIO_PCI_PAGE);

    int r = add_plain(pci, &pci->common, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_PAGE_COMMON,
                      sizeof(struct virtio_pci_common_cfg));
    if (r == 0)
        r = add_plain(pci, &pci->isr, VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_PCI_PAGE_ISR, 1);
    if (r == 0 && config_bytes > 0) /* 4.1.4.6: for devices that have one */
        r = add_plain(pci, &pci->device, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_PCI_PAGE_DEVICE, config_bytes);
    if (r == 0)
        r = add_notify(pci);
    return r < 0 ? r : add_window(pci);
}

int virtio_pci_add_shared_capability(struct virtio_pci *pci, unsigned index, const struct virtio_shared_region *region,
                                     uint64_t offset)
{
    struct virtio_pci_cap64 shared = {
        .cap = make_cap(sizeof(shared), VIRTIO_PCI_CAP_SHARED_MEMORY_CFG, VIRTIO_PCI_BAR_SHARED, (uint32_t)offset,
                        (uint32_t)region->size),
        .offset_hi = cpu_to_le32((uint32_t)(offset >> 32)),
        .length_hi = cpu_to_le32((uint32_t)(region->size >> 32)),
    };

    shared.cap.id = region->id;
    return add(pci, &pci->shared_capabilities[index], &shared, sizeof(shared));
}
