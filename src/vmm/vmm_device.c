/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A device is a back end, a transport in front of it, and what connects both with KVM: an eventfd for each interrupt
 * vector, which KVM listens to, and one for each queue that has none, which the control loop listens to.
 *
 * A device leaves in steps: the guest is asked (a slot's attention button); it switches the slot off; the device is
 * reset, so that nothing of it is in flight; it is unplugged under the lock, and closed without. Taken by force it
 * begins at the third step.
 *
 * Limits
 *
 * Devices on the root bus and on MMIO stay until the machine ends.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "transports/virtio_mmio/virtio_mmio.h"
#include "transports/virtio_pci/virtio_pci.h"
#include "vmm/vmm_private.h"

#define VMM_DEVICE_NAME_BYTES 64

/* A queue's notifications where no interrupt vector takes them. */
struct vmm_device_notice {
    struct vmm_device *device;
    unsigned index;
    int handle;
    struct loop_watch watch;
};

enum vmm_device_life {
    VMM_DEVICE_THERE,
    VMM_DEVICE_ASKED,   /* the guest was asked to let it go */
    VMM_DEVICE_LEAVING, /* it is being reset, to be taken out then */
};

struct vmm_device {
    struct vmm_device *next;
    struct vmm *vmm;
    char name[VMM_DEVICE_NAME_BYTES];
    struct vmm_device_options options; /* name: the copy */
    enum vmm_device_life life;
    bool plugged;
    void (*removed)(void *context, int result);
    void *removed_context;

    struct virtio_control *control; /* of mmio or pci */
    struct virtio_control_port control_port;
    struct virtio_control_queue *queues; /* [queue_count] */
    struct vmm_device_notice *notices;   /* [queue_count] */
    /* virtio-mmio */
    struct virtio_mmio mmio;
    struct bus_doorbell *doorbells; /* [queue_count] */
    struct vmm_line line;
    unsigned place;
    /* virtio-pci */
    struct virtio_pci pci;
    struct virtio_pci_queue *pci_queues; /* [queue_count] */
    struct pci_msix_port msix_port;
    struct pci_msix_vector *msix_vectors; /* [vector_count] */
    struct vmm_vector *vectors;           /* [vector_count] */
    unsigned vector_count;
    struct vmm_slot *slot; /* NULL: on the root bus */
};

/* ---- the transport's port */

static int vmm_device_notify_handle(struct virtio_control_port *port, unsigned index, uint16_t vector)
{
    const struct vmm_device *device = container_of(port, struct vmm_device, control_port);
    if (vector < device->vector_count)
        return device->vectors[vector].handle;
    /* An edge can come from any thread. */
    if (device->options.transport == VMM_TRANSPORT_MMIO && device->options.backend->notifies_listener)
        return -1;
    return device->notices[index].handle;
}

static void vmm_device_settled(struct virtio_control_port *port)
{
    vmm_tell(container_of(port, struct vmm_device, control_port)->vmm, VMM_EVENT_SETTLED, NULL);
}

static const struct virtio_control_port_class vmm_device_control_class = {
    .notify_handle = vmm_device_notify_handle,
    .settled = vmm_device_settled,
};

static void vmm_device_vector_changed(struct pci_msix_port *port, unsigned index, const struct msi_message *message)
{
    struct vmm_device *device = container_of(port, struct vmm_device, msix_port);
    /* What KVM refuses is a message that makes no sense: it interrupts nobody. */
    vmm_vector_set(&device->vectors[index], pci_function_id(&device->pci.function), message);
}

static bool vmm_device_vector_pending(struct pci_msix_port *port, unsigned index)
{
    return vmm_vector_pending(&container_of(port, struct vmm_device, msix_port)->vectors[index]);
}

static const struct pci_msix_port_class vmm_device_msix_class = {
    .changed = vmm_device_vector_changed,
    .pending = vmm_device_vector_pending,
};

/* On the control loop: a queue without a vector wants to interrupt. */
static void vmm_device_noticed(struct loop_watch *watch, unsigned events)
{
    struct vmm_device_notice *notice = container_of(watch, struct vmm_device_notice, watch);
    struct vmm_device *device = notice->device;
    uint64_t count;
    (void)events;
    if (read(notice->handle, &count, sizeof(count)) != (ssize_t)sizeof(count))
        return;
    vmm_lock(device->vmm);
    virtio_control_queue_signalled(device->control, notice->index);
    vmm_unlock(device->vmm);
}

/* ---- making it */

static void vmm_device_close_notices(struct vmm_device *device)
{
    for (unsigned i = 0; device->notices && i < device->options.backend->queue_count; i++) {
        struct vmm_device_notice *notice = &device->notices[i];
        loop_unwatch(device->vmm->options.loop, &notice->watch);
        if (notice->handle >= 0)
            close(notice->handle);
    }
}

static void vmm_device_free(struct vmm_device *device)
{
    vmm_device_close_notices(device);
    for (unsigned i = 0; device->vectors && i < device->vector_count; i++)
        vmm_vector_close(&device->vectors[i]);
    vmm_line_close(&device->line);
    free(device->vectors);
    free(device->msix_vectors);
    free(device->pci_queues);
    free(device->doorbells);
    free(device->notices);
    free(device->queues);
    free(device);
}

static int vmm_device_open_notices(struct vmm_device *device)
{
    unsigned count = device->options.backend->queue_count;
    device->notices = calloc(count, sizeof(*device->notices));
    if (!device->notices)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++)
        device->notices[i] =
            (struct vmm_device_notice){.device = device, .index = i, .handle = -1, .watch = LOOP_WATCH_NONE};
    for (unsigned i = 0; i < count; i++) {
        struct vmm_device_notice *notice = &device->notices[i];
        notice->handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (notice->handle < 0)
            return -errno;
        int r =
            loop_watch(device->vmm->options.loop, &notice->watch, notice->handle, LOOP_READABLE, vmm_device_noticed);
        if (r < 0)
            return r;
    }
    return 0;
}

static struct virtio_control_config vmm_device_control_config(struct vmm_device *device)
{
    device->control_port.class = &vmm_device_control_class;
    return (struct virtio_control_config){
        .backend = device->options.backend,
        .port = &device->control_port,
        .queues = device->queues,
        .features_added = VIRTIO_F_RING_RESET | (device->options.isolated ? VIRTIO_F_ACCESS_PLATFORM : 0),
        .features_required = device->options.isolated ? VIRTIO_F_ACCESS_PLATFORM : 0,
    };
}

static int vmm_device_make_mmio(struct vmm_device *device)
{
    struct vmm *vmm = device->vmm;
    device->place = vmm->mmio_count;
    device->doorbells = calloc(device->options.backend->queue_count, sizeof(*device->doorbells));
    if (!device->doorbells)
        return -ENOMEM;
    if (device->place >= vmm->places.virtio_mmio_max)
        return -ENOSPC;
    int r = vmm_line_open(&device->line, &vmm->irqs, vmm_board_mmio_wire(device->place));
    if (r < 0)
        return r;
    const struct virtio_mmio_config config = {
        .control = vmm_device_control_config(device),
        .doorbells = device->doorbells,
        .bus = vmm->mmio,
        .line = &device->line.line,
    };
    virtio_mmio_init(&device->mmio, &config);
    device->control = &device->mmio.control;
    r = bus_add(vmm->mmio, vmm->places.virtio_mmio_base + device->place * vmm->places.virtio_mmio_stride,
                VIRTIO_MMIO_BYTES, &device->mmio.device);
    if (r < 0)
        return r;
    vmm->mmio_count++;
    return 0;
}

static int vmm_device_open_vectors(struct vmm_device *device)
{
    unsigned queues = device->options.backend->queue_count;
    unsigned count = u32_min(queues + 1, PCI_MSIX_VECTORS_MAX); /* one for the configuration */
    device->pci_queues = calloc(queues, sizeof(*device->pci_queues));
    device->msix_vectors = calloc(count, sizeof(*device->msix_vectors));
    device->vectors = calloc(count, sizeof(*device->vectors));
    if (!device->pci_queues || !device->msix_vectors || !device->vectors)
        return -ENOMEM;
    device->vector_count = count;
    for (unsigned i = 0; i < count; i++)
        device->vectors[i].handle = -1;
    int r = 0;
    for (unsigned i = 0; i < count && r == 0; i++)
        r = vmm_vector_open(&device->vectors[i], &device->vmm->irqs);
    return r;
}

/* The first free device number of the root bus; 0 is the host bridge. */
static int vmm_device_plug_root(struct vmm_device *device)
{
    for (unsigned number = 1; number < PCI_DEVICES_MAX; number++) {
        if (pci_root_find(device->vmm->pci, 0, number * PCI_FUNCTIONS_MAX))
            continue;
        return pci_function_plug(device->vmm->pci, &device->vmm->pci->bus, number, 0, &device->pci.function);
    }
    return -ENOSPC;
}

static int vmm_device_plug_slot(struct vmm_device *device)
{
    struct vmm *vmm = device->vmm;
    for (unsigned i = 0; i < vmm->options.pci_slots; i++) {
        struct vmm_slot *slot = &vmm->slots[i];
        if (slot->device)
            continue;
        int r = pci_port_plug(&slot->port, 0, &device->pci.function, vmm->state == VMM_RUNNING);
        if (r < 0)
            return r;
        slot->device = device;
        device->slot = slot;
        return 0;
    }
    return -ENOSPC;
}

static int vmm_device_make_pci(struct vmm_device *device)
{
    device->msix_port.class = &vmm_device_msix_class;
    int r = vmm_device_open_vectors(device);
    if (r < 0)
        return r;
    const struct virtio_pci_config config = {
        .control = vmm_device_control_config(device),
        .queues = device->pci_queues,
        .bus = device->vmm->mmio,
        .vectors = device->msix_vectors,
        .vector_count = device->vector_count,
        .msix_port = &device->msix_port,
        .shared_page_bytes = device->vmm->host.page_bytes,
        .integrated = device->options.transport == VMM_TRANSPORT_PCI,
    };
    r = virtio_pci_init(&device->pci, &config);
    if (r < 0)
        return r;
    device->control = &device->pci.control;
    return device->options.transport == VMM_TRANSPORT_SLOT ? vmm_device_plug_slot(device)
                                                           : vmm_device_plug_root(device);
}

static int vmm_device_make(struct vmm_device *device)
{
    device->queues = calloc(device->options.backend->queue_count, sizeof(*device->queues));
    if (!device->queues)
        return -ENOMEM;
    int r = vmm_device_open_notices(device);
    if (r < 0)
        return r;
    return device->options.transport == VMM_TRANSPORT_MMIO ? vmm_device_make_mmio(device) : vmm_device_make_pci(device);
}

static const char *vmm_device_refusal(struct vmm *vmm, const struct vmm_device_options *options, int *ret_error)
{
    *ret_error = -EINVAL;
    if (strlen(options->name) >= VMM_DEVICE_NAME_BYTES)
        return "its name is too long";
    if (vmm->state != VMM_CREATED && vmm->state != VMM_RUNNING) {
        *ret_error = -EBUSY;
        return "the machine is paused, or on the way: later";
    }
    if (vmm->state == VMM_RUNNING && options->transport != VMM_TRANSPORT_SLOT)
        return "while the guest runs, devices go into slots";
    *ret_error = -EEXIST;
    return vmm_device_find(vmm, options->name) ? "there is a device of that name" : NULL;
}

int vmm_device_add(struct vmm *vmm, const struct vmm_device_options *options, struct vmm_device **ret_device,
                   char *error, size_t error_bytes)
{
    int r;
    const char *refusal = vmm_device_refusal(vmm, options, &r);
    if (refusal) {
        snprintf(error, error_bytes, "cannot add %s: %s", options->name, refusal);
        return r;
    }
    struct vmm_device *device = calloc(1, sizeof(*device));
    if (!device) {
        snprintf(error, error_bytes, "cannot add %s: out of memory", options->name);
        return -ENOMEM;
    }
    device->vmm = vmm;
    device->options = *options;
    snprintf(device->name, sizeof(device->name), "%s", options->name);
    device->options.name = device->name;
    vmm_lock(vmm);
    r = vmm_device_make(device);
    if (r == 0) {
        device->plugged = true;
        device->next = vmm->devices;
        vmm->devices = device;
    }
    vmm_unlock(vmm);
    if (r < 0) {
        vmm_device_free(device);
        snprintf(error, error_bytes, "cannot add %s: %s", options->name,
                 r == -ENOSPC ? "no place for it is free: more slots, or another transport" : strerror(-r));
        return r;
    }
    *ret_device = device;
    return 0;
}

/* ---- taking it away */

/* It has settled after a reset: nothing of it is in flight. */
static void vmm_device_unplug(struct vmm_device *device)
{
    struct vmm *vmm = device->vmm;
    if (!device->plugged)
        return;
    device->plugged = false;
    if (device->slot) {
        pci_port_unplug(&device->slot->port);
        device->slot->device = NULL;
        device->slot = NULL;
    } else if (device->control == &device->pci.control) {
        pci_function_unplug(&device->pci.function);
    } else {
        bus_remove(vmm->mmio, &device->mmio.device);
    }
}

static void vmm_device_begin_to_leave(struct vmm_device *device)
{
    if (device->life == VMM_DEVICE_LEAVING)
        return;
    device->life = VMM_DEVICE_LEAVING;
    virtio_control_reset(device->control); /* then it is settled, now or later */
    vmm_tell(device->vmm, VMM_EVENT_SETTLED, NULL);
}

int vmm_device_remove(struct vmm *vmm, struct vmm_device *device, bool force, void (*done)(void *context, int result),
                      void *context)
{
    int r = 0;
    if (!device->slot)
        return -EINVAL;
    if (vmm->state != VMM_RUNNING || device->life == VMM_DEVICE_LEAVING || (device->life == VMM_DEVICE_ASKED && !force))
        return -EBUSY;
    vmm_lock(vmm);
    if (!force)
        r = pci_port_unplug_request(&device->slot->port);
    if (force || r == -EALREADY) {
        vmm_device_begin_to_leave(device);
        r = 0;
    } else if (r == 0) {
        device->life = VMM_DEVICE_ASKED;
    }
    if (r == 0 && done) {
        device->removed = done;
        device->removed_context = context;
    }
    vmm_unlock(vmm);
    return r;
}

void vmm_devices_attend(struct vmm *vmm)
{
    struct vmm_device **link = &vmm->devices;
    while (*link) {
        struct vmm_device *device = *link;
        if (device->life == VMM_DEVICE_ASKED && !pci_port_has_power(&device->slot->port))
            vmm_device_begin_to_leave(device);
        if (device->life == VMM_DEVICE_LEAVING && virtio_control_is_settled(device->control)) {
            vmm_device_unplug(device);
            *link = device->next;
            device->next = vmm->gone;
            vmm->gone = device;
        } else {
            link = &device->next;
        }
    }
}

void vmm_devices_bury(struct vmm *vmm)
{
    while (vmm->gone) {
        struct vmm_device *device = vmm->gone;
        vmm->gone = device->next;
        vmm_device_close_notices(device);
        free(device->notices);
        device->notices = NULL;
        if (device->options.close)
            device->options.close(device->options.context);
        if (device->removed)
            device->removed(device->removed_context, 0);
        vmm_device_free(device);
    }
}

void vmm_devices_close(struct vmm *vmm)
{
    vmm_lock(vmm);
    while (vmm->devices) {
        struct vmm_device *device = vmm->devices;
        vmm->devices = device->next;
        vmm_device_unplug(device);
        device->next = vmm->gone;
        vmm->gone = device;
        device->removed = NULL;
    }
    vmm_unlock(vmm);
    vmm_devices_bury(vmm);
}

/* ---- all of them */

void vmm_devices_pause(struct vmm *vmm)
{
    for (struct vmm_device *device = vmm->devices; device; device = device->next)
        virtio_control_pause(device->control);
}

void vmm_devices_resume(struct vmm *vmm)
{
    for (struct vmm_device *device = vmm->devices; device; device = device->next)
        virtio_control_resume(device->control);
}

void vmm_devices_reset(struct vmm *vmm)
{
    pci_root_reset(vmm->pci);
    for (struct vmm_device *device = vmm->devices; device; device = device->next)
        virtio_control_reset(device->control);
}

bool vmm_devices_settled(const struct vmm *vmm)
{
    for (const struct vmm_device *device = vmm->devices; device; device = device->next) {
        if (!virtio_control_is_settled(device->control))
            return false;
    }
    return true;
}

void vmm_devices_plan(const struct vmm *vmm, struct machine_plan *plan)
{
    for (const struct vmm_device *device = vmm->devices; device; device = device->next) {
        if (device->options.transport != VMM_TRANSPORT_MMIO)
            continue;
        plan->virtio_mmio[device->place] = (struct machine_virtio_mmio){
            .base = vmm->places.virtio_mmio_base + device->place * vmm->places.virtio_mmio_stride,
            .size = VIRTIO_MMIO_BYTES,
            .irq = vmm_board_mmio_wire(device->place),
        };
        plan->virtio_mmio_count++;
    }
}

/* ---- snapshots */

/* The root with all that is plugged into it; and a device of virtio-mmio: its name, and its records. */
#define VMM_PCI_STATE_TAG 0x49435056u    /* "VPCI" */
#define VMM_DEVICE_STATE_TAG 0x4f494d56u /* "VMIO" */
#define VMM_DEVICE_STATE_BYTES (64u << 10)

size_t vmm_devices_state_bytes(const struct vmm *vmm)
{
    size_t count = 1;
    for (const struct vmm_device *device = vmm->devices; device; device = device->next)
        count++;
    return VMM_PCI_STATE_BYTES + count * VMM_DEVICE_STATE_BYTES;
}

static int vmm_device_save_mmio(const struct vmm_device *device, struct state_writer *writer)
{
    size_t mark;
    int r = state_begin(writer, VMM_DEVICE_STATE_TAG, 1, &mark);
    if (r < 0)
        return r;
    r = state_append(writer, device->name, sizeof(device->name));
    if (r == 0)
        r = virtio_mmio_save(&device->mmio, writer);
    return state_end(writer, mark, r);
}

int vmm_devices_save(struct vmm *vmm, struct state_writer *writer)
{
    size_t mark;
    int r = state_begin(writer, VMM_PCI_STATE_TAG, 1, &mark);
    if (r == 0)
        r = state_end(writer, mark, pci_root_save(vmm->pci, writer));
    for (const struct vmm_device *device = vmm->devices; device && r == 0; device = device->next) {
        if (device->options.transport == VMM_TRANSPORT_MMIO)
            r = vmm_device_save_mmio(device, writer);
    }
    return r;
}

static int vmm_device_load_mmio(struct vmm *vmm, const struct state_record *record)
{
    char name[VMM_DEVICE_NAME_BYTES];
    if (record->length < sizeof(name))
        return -EBADMSG;
    memcpy(name, record->payload, sizeof(name));
    name[sizeof(name) - 1] = '\0';
    struct vmm_device *device = vmm_device_find(vmm, name);
    if (!device || device->options.transport != VMM_TRANSPORT_MMIO)
        return -ENODEV;
    struct state_reader reader = {.bytes = record->payload + sizeof(name), .size = record->length - sizeof(name)};
    return virtio_mmio_load(&device->mmio, &reader);
}

int vmm_devices_load(struct vmm *vmm, struct state_reader *reader)
{
    struct state_record record;
    int r;
    while ((r = state_next(reader, &record)) > 0) {
        struct state_reader inside = {.bytes = record.payload, .size = record.length};
        if (record.tag == VMM_PCI_STATE_TAG)
            r = pci_root_load(vmm->pci, &inside);
        else if (record.tag == VMM_DEVICE_STATE_TAG)
            r = vmm_device_load_mmio(vmm, &record);
        if (r < 0)
            return r;
    }
    return r;
}

/* ---- for people */

struct vmm_device *vmm_device_find(struct vmm *vmm, const char *name)
{
    for (struct vmm_device *device = vmm->devices; device; device = device->next) {
        if (strcmp(device->name, name) == 0)
            return device;
    }
    return NULL;
}

struct vmm_device *vmm_device_next(struct vmm *vmm, struct vmm_device *device)
{
    return device ? device->next : vmm->devices;
}

const char *vmm_device_name(const struct vmm_device *device)
{
    return device->name;
}

void *vmm_device_context(const struct vmm_device *device)
{
    return device->options.context;
}

void vmm_device_place(const struct vmm_device *device, char *text, size_t text_bytes)
{
    const struct vmm *vmm = device->vmm;
    if (device->options.transport == VMM_TRANSPORT_MMIO) {
        uint64_t base = vmm->places.virtio_mmio_base + device->place * vmm->places.virtio_mmio_stride;
        snprintf(text, text_bytes, "mmio 0x%" PRIx64, base);
        return;
    }
    uint16_t id = pci_function_id(&device->pci.function);
    snprintf(text, text_bytes, "pci 0000:%02x:%02x.%x", id >> 8, id >> 3 & 0x1f, id & 7u);
}
