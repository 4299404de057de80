/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The control loop owns the machine's life. To pause, reset or end it there is one way, in steps: every virtual
 * processor parks, then every device settles (its queues stop and I/O in flight lands; a reset also forgets), then the
 * goal is reached. Nobody waits for a step: processors and devices tell the loop (vmm_tell), which looks whether the
 * step is done (vmm_attend). A goal that comes meanwhile takes the place of a lesser one.
 *
 * The lock is held while devices are touched, and never while the loop waits for anything.
 */
#include "vmm/vmm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/vmm_private.h"

/* Behind each root port: two devices' worth of registers, and a window of shared memory. */
#define VMM_SLOT_MEMORY_MIB 2
#define VMM_SLOT_PREFETCHABLE_MIB 32

#define VMM_VENDOR_ID 0x1b36 /* Red Hat, Inc.: QEMU's devices that are no particular hardware */
#define VMM_ROOT_PORT_ID 0x000c
#define VMM_HOST_BRIDGE_ID 0x0008

void vmm_lock(void *argument)
{
    struct vmm *vmm = argument;
    int r = pthread_mutex_lock(&vmm->lock);
    ASSERT(r == 0);
}

void vmm_unlock(void *argument)
{
    struct vmm *vmm = argument;
    int r = pthread_mutex_unlock(&vmm->lock);
    ASSERT(r == 0);
}

/* ---- from step to step */

void vmm_tell(struct vmm *vmm, unsigned events, const char *text)
{
    if (text && !(vmm->events & (VMM_EVENT_CRASH | VMM_EVENT_FAILED)))
        snprintf(vmm->end_text, sizeof(vmm->end_text), "%s", text);
    vmm->events |= events;
    if (events & (VMM_EVENT_POWER_OFF | VMM_EVENT_RESET | VMM_EVENT_CRASH | VMM_EVENT_FAILED))
        vmm_vcpus_park(vmm); /* nothing that comes after it counts */
    if (events & VMM_EVENT_SETTLED)
        pthread_cond_broadcast(&vmm->settled);
    loop_post(vmm->options.loop, &vmm->attend);
}

/* Begin, or go on, towards @goal. The lock is held. */
static void vmm_head_for(struct vmm *vmm, enum vmm_goal goal)
{
    if (vmm->state == VMM_ENDED || goal <= vmm->goal)
        return;
    vmm->goal = goal;
    vmm->state = VMM_CHANGING;
    vmm->step = VMM_STEP_PARKING;
    vmm_vcpus_park(vmm);
    loop_post(vmm->options.loop, &vmm->attend);
}

static void vmm_settle(struct vmm *vmm)
{
    vmm->step = VMM_STEP_SETTLING;
    if (vmm->goal == VMM_GOAL_PAUSE)
        vmm_devices_pause(vmm);
    else
        vmm_devices_reset(vmm);
}

static void vmm_go_on(struct vmm *vmm)
{
    vmm->state = VMM_RUNNING;
    vmm->goal = VMM_GOAL_NONE;
    vmm->step = VMM_STEP_NONE;
    vmm_vcpus_unpark(vmm);
}

/* The machine is empty: start it anew. The lock is held. */
static int vmm_start_anew(struct vmm *vmm)
{
    int r = vmm_board_reset(vmm);
    if (r < 0)
        snprintf(vmm->end_text, sizeof(vmm->end_text), "it cannot be reset: %s", strerror(-r));
    else
        r = vmm_board_load(vmm, vmm->end_text, sizeof(vmm->end_text));
    if (r < 0)
        return r;
    vmm->resets_total++;
    vmm_go_on(vmm);
    return 0;
}

static const char *vmm_end_text(const struct vmm *vmm)
{
    switch (vmm->end) {
    case VMM_END_POWER_OFF:
        return "the guest has switched itself off";
    case VMM_END_RESET:
        return "the guest has reset itself";
    case VMM_END_QUIT:
        return "it was told to";
    default:
        return vmm->end_text;
    }
}

/* The goal is reached. The lock is held at the call, and not at the return, since callers are called. */
static void vmm_arrive(struct vmm *vmm)
{
    enum vmm_goal goal = vmm->goal;
    void (*done)(void *context, int result) = vmm->pause_done;
    vmm->pause_done = NULL;
    vmm->goal = VMM_GOAL_NONE;
    vmm->step = VMM_STEP_NONE;
    if (goal == VMM_GOAL_RESET && vmm_start_anew(vmm) < 0) {
        vmm->end = VMM_END_FAILED;
        goal = VMM_GOAL_END;
    }
    if (goal == VMM_GOAL_PAUSE) {
        vmm->state = VMM_PAUSED;
        vmm->pauses_total++;
    } else if (goal == VMM_GOAL_END) {
        vmm->state = VMM_ENDED;
    }
    vmm_unlock(vmm);
    if (done)
        done(vmm->pause_context, goal == VMM_GOAL_PAUSE ? 0 : -ECANCELED);
    if (goal == VMM_GOAL_END) {
        vmm_vcpus_stop(vmm);
        vmm->options.ended(vmm->options.context, vmm->end, vmm_end_text(vmm));
    }
}

/* What processors have told: 0, or the goal that it sets. */
static enum vmm_goal vmm_goal_of(struct vmm *vmm, unsigned events)
{
    static const struct {
        unsigned event;
        enum vmm_end end;
    } ends[] = {
        {VMM_EVENT_FAILED, VMM_END_FAILED},
        {VMM_EVENT_CRASH, VMM_END_CRASH},
        {VMM_EVENT_POWER_OFF, VMM_END_POWER_OFF},
    };
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        if (events & ends[i].event) {
            vmm->end = ends[i].end;
            return VMM_GOAL_END;
        }
    }
    if (!(events & VMM_EVENT_RESET))
        return VMM_GOAL_NONE;
    if (!vmm->options.reset_ends)
        return VMM_GOAL_RESET;
    vmm->end = VMM_END_RESET;
    return VMM_GOAL_END;
}

static void vmm_attend(struct loop_message *message)
{
    struct vmm *vmm = container_of(message, struct vmm, attend);
    vmm_lock(vmm);
    unsigned events = vmm->events;
    vmm->events = 0;
    vmm_devices_attend(vmm);
    enum vmm_goal goal = vmm->goal == VMM_GOAL_END ? VMM_GOAL_NONE : vmm_goal_of(vmm, events);
    if (goal != VMM_GOAL_NONE)
        vmm_head_for(vmm, goal);
    if (vmm->step == VMM_STEP_PARKING && vmm->parked_count == vmm->options.processors)
        vmm_settle(vmm);
    if (vmm->step == VMM_STEP_SETTLING && vmm_devices_settled(vmm))
        vmm_arrive(vmm);
    else
        vmm_unlock(vmm);
    vmm_devices_bury(vmm);
}

/* ---- what the caller wants */

enum vmm_state vmm_state(const struct vmm *vmm)
{
    return vmm->state;
}

int vmm_pause(struct vmm *vmm, void (*done)(void *context, int result), void *context)
{
    if (vmm->state == VMM_PAUSED)
        return -EALREADY;
    if (vmm->state != VMM_RUNNING)
        return -EBUSY;
    vmm_lock(vmm);
    vmm->pause_done = done;
    vmm->pause_context = context;
    vmm_head_for(vmm, VMM_GOAL_PAUSE);
    vmm_unlock(vmm);
    return 0;
}

int vmm_resume(struct vmm *vmm)
{
    if (vmm->state != VMM_PAUSED)
        return -EINVAL;
    vmm_lock(vmm);
    vmm_board_resumes(vmm);
    vmm_devices_resume(vmm);
    vmm_go_on(vmm);
    vmm_unlock(vmm);
    return 0;
}

void vmm_quit(struct vmm *vmm)
{
    vmm_lock(vmm);
    ASSERT(vmm->state != VMM_CREATED);
    if (vmm->goal != VMM_GOAL_END && vmm->state != VMM_ENDED) {
        vmm->end = VMM_END_QUIT;
        vmm_head_for(vmm, VMM_GOAL_END);
    }
    vmm_unlock(vmm);
}

int vmm_power_button(struct vmm *vmm)
{
    vmm_lock(vmm);
    int r = vmm_board_power_button(vmm);
    vmm_unlock(vmm);
    return r;
}

size_t vmm_serial_input(struct vmm *vmm, const uint8_t *bytes, size_t count)
{
    vmm_lock(vmm);
    size_t taken = vmm_board_serial_input(vmm, bytes, count);
    vmm_unlock(vmm);
    return taken;
}

int vmm_start(struct vmm *vmm, char *error, size_t error_bytes)
{
    ASSERT(vmm->state == VMM_CREATED);
    vmm_lock(vmm);
    int r = pci_assign(vmm->pci, &vmm->assign);
    if (r < 0)
        snprintf(error, error_bytes, "the devices need more addresses than this machine has: take some away");
    if (r == 0 && (r = vmm_board_power_on(vmm)) < 0)
        snprintf(error, error_bytes, "cannot keep what the machine is like at power-on: %s", strerror(-r));
    if (r == 0)
        r = vmm_board_load(vmm, error, error_bytes);
    vmm_unlock(vmm);
    if (r < 0)
        return r;
    r = vmm_vcpus_start(vmm);
    if (r < 0) {
        snprintf(error, error_bytes, "cannot start threads for %u processors: %s", vmm->options.processors,
                 strerror(-r));
        return r;
    }
    vmm_lock(vmm);
    vmm_go_on(vmm);
    vmm_unlock(vmm);
    return 0;
}

const struct guest_memory *vmm_guest_memory(const struct vmm *vmm)
{
    return &vmm->memory.map;
}

unsigned vmm_shared_ranges(const struct vmm *vmm, struct vmm_memory_range *ret_ranges)
{
    unsigned count = 0;
    bool isolated = vmm->memory.bounce_bytes > 0;
    for (unsigned i = 0; i < vmm->memory.range_count; i++) {
        const struct vmm_ram_range *range = &vmm->memory.ranges[i];
        if (range->bounce != isolated)
            continue;
        ret_ranges[count++] = (struct vmm_memory_range){.guest_base = range->guest_base,
                                                        .size = range->size,
                                                        .offset = range->offset,
                                                        .handle = range->handle,
                                                        .host = range->host};
    }
    return count;
}

void vmm_look(struct vmm *vmm, struct vmm_statistics *ret_statistics)
{
    struct vmm_statistics sum = {.resets_total = vmm->resets_total, .pauses_total = vmm->pauses_total};
    for (unsigned i = 0; i < vmm->options.processors; i++) {
        sum.exits_total += atomic_load(&vmm->vcpus[i].exits_total);
        sum.mmio_total += atomic_load(&vmm->vcpus[i].mmio_total);
        sum.pio_total += atomic_load(&vmm->vcpus[i].pio_total);
        sum.interrupted_total += atomic_load(&vmm->vcpus[i].interrupted_total);
    }
    vmm_lock(vmm);
    sum.nobody_total = vmm->mmio->nobody_total + vmm->pio->nobody_total;
    vmm_unlock(vmm);
    *ret_statistics = sum;
}

/* ---- making and unmaking */

static int vmm_fail(char *error, size_t error_bytes, int result, const char *what)
{
    snprintf(error, error_bytes, "%s: %s", what, strerror(-result));
    return result;
}

static int vmm_open_kvm(struct vmm *vmm, char *error, size_t error_bytes)
{
    const char *path = vmm->options.kvm_path ? vmm->options.kvm_path : KVM_HOST_PATH;
    unsigned bits = 0;
    int r = kvm_host_open(&vmm->host, NULL, path);
    if (r < 0) {
        snprintf(error, error_bytes, "cannot use %s: %s; `backplane probe` says more", path, strerror(-r));
        return r;
    }
    const struct kvm_capability *missing = kvm_host_missing(&vmm->host);
    if (missing) {
        snprintf(error, error_bytes, "this host's KVM lacks %s, needed: %s", missing->name, missing->purpose);
        return -ENOTSUP;
    }
    r = vmm_board_address_bits(&vmm->host, &bits);
    if (r == 0)
        r = kvm_vm_open(&vmm->vm, &vmm->host, vmm_board_vm_bits(bits));
    if (r < 0)
        return vmm_fail(error, error_bytes, r, "cannot make a virtual machine");
    vmm_board_places(bits, &vmm->places);
    return 0;
}

static int vmm_open_memory(struct vmm *vmm, char *error, size_t error_bytes)
{
    const struct vmm_memory_options options = {
        .bytes = vmm->options.memory_bytes,
        .page_bytes = vmm->options.huge_page_bytes,
        .bounce_bytes = vmm->options.bounce_bytes,
        .prealloc = vmm->options.memory_prealloc,
    };
    int r = vmm_memory_open(&vmm->memory, &vmm->places.ram, &options, error, error_bytes);
    for (unsigned i = 0; i < vmm->memory.range_count && r == 0; i++) {
        const struct vmm_ram_range *range = &vmm->memory.ranges[i];
        const struct kvm_slot slot = {
            .number = i, .address = range->guest_base, .bytes = range->size, .host = range->host};
        r = resource_take(&vmm->resources.spaces[RESOURCE_MEMORY_SLOT], i, 1, "RAM");
        if (r == 0)
            r = kvm_vm_slot_set(&vmm->vm, &slot);
        if (r < 0)
            return vmm_fail(error, error_bytes, r, "cannot give the machine its memory");
    }
    return r;
}

static int vmm_window(struct vmm *vmm, enum resource_kind kind, uint64_t base, uint64_t bytes)
{
    return bytes == 0 ? 0 : resource_window_add(&vmm->resources.spaces[kind], base, bytes);
}

static int vmm_open_resources(struct vmm *vmm)
{
    const struct vmm_board_places *places = &vmm->places;
    int r = 0;
    for (unsigned kind = 0; kind < RESOURCE_KINDS; kind++) {
        vmm->ranges[kind] = calloc(VMM_RANGES_MAX, sizeof(*vmm->ranges[kind]));
        if (!vmm->ranges[kind])
            return -ENOMEM;
        resource_space_init(&vmm->resources.spaces[kind], (enum resource_kind)kind, vmm->ranges[kind], VMM_RANGES_MAX);
    }
    r = vmm_window(vmm, RESOURCE_MMIO_LOW, places->mmio_low_base, places->mmio_low_bytes);
    if (r == 0)
        r = vmm_window(vmm, RESOURCE_MMIO_HIGH, places->mmio_high_base, places->mmio_high_bytes);
    if (r == 0)
        r = vmm_window(vmm, RESOURCE_PIO, places->pio_base, places->pio_bytes);
    return r == 0 ? vmm_window(vmm, RESOURCE_MEMORY_SLOT, 0, kvm_vm_slots_max(&vmm->vm)) : r;
}

static int vmm_open_buses(struct vmm *vmm)
{
    vmm->mmio = malloc(sizeof(*vmm->mmio));
    vmm->pio = malloc(sizeof(*vmm->pio));
    if (!vmm->mmio || !vmm->pio)
        return -ENOMEM;
    vmm_bus_port_init(&vmm->bus_port, &vmm->vm, vmm->pio, &vmm->resources.spaces[RESOURCE_MEMORY_SLOT]);
    bus_init(vmm->mmio, "MMIO", &vmm->bus_port.port);
    bus_init(vmm->pio, "PIO", &vmm->bus_port.port);
    return vmm_irqs_open(&vmm->irqs, &vmm->vm, vmm->places.wires);
}

static int vmm_open_processors(struct vmm *vmm, char *error, size_t error_bytes)
{
    int r = vmm_board_open(vmm, error, error_bytes);
    if (r < 0)
        return r;
    vmm->vcpus = calloc(vmm->options.processors, sizeof(*vmm->vcpus));
    if (!vmm->vcpus)
        return vmm_fail(error, error_bytes, -ENOMEM, "processors");
    for (unsigned i = 0; i < vmm->options.processors && r == 0; i++) {
        vmm->vcpus[i].vmm = vmm;
        vmm->vcpus[i].index = i;
        r = kvm_vcpu_open(&vmm->vcpus[i].kvm, &vmm->vm, i);
        if (r == 0)
            r = vmm_board_open_processor(vmm, &vmm->vcpus[i].kvm);
    }
    if (r < 0)
        return vmm_fail(error, error_bytes, r, "KVM does not make so many processors, or not of this kind");
    return 0;
}

static int vmm_open_pci(struct vmm *vmm)
{
    const struct vmm_board_places *places = &vmm->places;
    struct pci_root_options options = {
        .mmio = vmm->mmio,
        .pio = places->has_ports ? vmm->pio : NULL,
        .ecam_base = places->ecam_base,
        .buses = places->buses,
        .mechanism_1 = places->has_ports,
        .msi = &vmm->irqs.msi,
        .host_bridge_vendor = VMM_VENDOR_ID,
        .host_bridge_device = VMM_HOST_BRIDGE_ID,
    };
    const struct pci_bar_window windows[] = {
        {PCI_BAR_MEMORY, places->mmio_low_base, places->mmio_low_bytes},
        {PCI_BAR_MEMORY, places->mmio_high_base, places->mmio_high_bytes},
        {PCI_BAR_IO, places->pio_base, places->pio_bytes},
    };
    for (unsigned i = 0; i < PCI_WIRES; i++) {
        int r = vmm_line_open(&vmm->pci_lines[i], &vmm->irqs, places->pci_wires[i]);
        if (r < 0)
            return r;
        options.wires[i] = &vmm->pci_lines[i].line;
    }
    vmm->pci = malloc(sizeof(*vmm->pci));
    if (!vmm->pci)
        return -ENOMEM;
    int r = pci_root_init(vmm->pci, &options);
    for (size_t i = 0; i < ARRAY_SIZE(windows) && r == 0; i++) {
        if (windows[i].size > 0)
            r = pci_bar_engine_add_window(&vmm->pci->engine, &windows[i]);
    }
    return r;
}

static void vmm_slot_ejected(struct pci_port_listener *listener, struct pci_port *port)
{
    (void)port;
    vmm_tell(container_of(listener, struct vmm, slot_listener), VMM_EVENT_EJECTED, NULL);
}

static const struct pci_port_listener_class vmm_slot_listener_class = {.ejected = vmm_slot_ejected};

/* Root ports, from device 1 on, so that numbers of devices on the root bus do not depend on how many there are. */
static int vmm_open_slots(struct vmm *vmm)
{
    int r = 0;
    vmm->slot_listener.class = &vmm_slot_listener_class;
    vmm->slots = calloc(vmm->options.pci_slots + 1, sizeof(*vmm->slots));
    if (!vmm->slots)
        return -ENOMEM;
    for (unsigned i = 0; i < vmm->options.pci_slots && r == 0; i++) {
        const struct pci_port_options options = {
            .slot_number = (uint16_t)(i + 1),
            .port_number = (uint8_t)(i + 1),
            .vendor = VMM_VENDOR_ID,
            .device = VMM_ROOT_PORT_ID,
            .pin = 1,
            .listener = &vmm->slot_listener,
        };
        r = pci_port_init(&vmm->slots[i].port, &options);
        /* Behind all of them, so that devices of the root bus have the numbers they would have without. */
        if (r == 0)
            r = pci_port_connect(&vmm->slots[i].port, vmm->pci, PCI_DEVICES_MAX - 1 - i / PCI_FUNCTIONS_MAX,
                                 i % PCI_FUNCTIONS_MAX);
    }
    vmm->assign = (struct pci_assign_options){
        .reserve_memory = VMM_SLOT_MEMORY_MIB,
        .reserve_prefetchable = VMM_SLOT_PREFETCHABLE_MIB,
    };
    for (unsigned i = 0; i < PCI_WIRES; i++)
        vmm->assign.lines[i] = (uint8_t)vmm->places.pci_wires[i];
    return r;
}

static int vmm_open(struct vmm *vmm, char *error, size_t error_bytes)
{
    int r = vmm_open_kvm(vmm, error, error_bytes);
    if (r < 0)
        return r;
    r = vmm_open_resources(vmm);
    if (r == 0)
        r = vmm_open_buses(vmm);
    if (r < 0)
        return vmm_fail(error, error_bytes, r, "cannot make a machine");
    r = vmm_open_memory(vmm, error, error_bytes);
    if (r == 0)
        r = vmm_open_processors(vmm, error, error_bytes);
    if (r == 0)
        r = vmm_board_finish(vmm, error, error_bytes);
    if (r < 0)
        return r;
    r = vmm_open_pci(vmm);
    if (r == 0)
        r = vmm_open_slots(vmm);
    return r < 0 ? vmm_fail(error, error_bytes, r, "cannot make its PCI bus") : 0;
}

static int vmm_judge(const struct vmm_options *options, char *error, size_t error_bytes)
{
    const char *wrong = NULL;
    if (options->processors < 1 || options->processors > VMM_PROCESSORS_MAX)
        wrong = "a machine has 1 to 64 processors";
    else if (options->pci_slots > PCI_FUNCTIONS_MAX * 2)
        wrong = "a machine has at most 16 slots for hot plug";
    else if (!options->kernel)
        wrong = "which kernel?";
    if (wrong)
        snprintf(error, error_bytes, "%s", wrong);
    return wrong ? -EINVAL : 0;
}

struct vmm *vmm_create(const struct vmm_options *options, int *ret_error, char *error, size_t error_bytes)
{
    *ret_error = vmm_judge(options, error, error_bytes);
    if (*ret_error < 0)
        return NULL;
    struct vmm *vmm = calloc(1, sizeof(*vmm));
    if (!vmm) {
        *ret_error = vmm_fail(error, error_bytes, -ENOMEM, "a machine");
        return NULL;
    }
    vmm->options = *options;
    vmm->memory.handle = vmm->memory.bounce_handle = -1;
    vmm->attend.deliver = vmm_attend;
    atomic_store(&vmm->park_wanted, true);
    pthread_mutex_init(&vmm->lock, NULL);
    pthread_cond_init(&vmm->settled, NULL);
    pthread_cond_init(&vmm->unparked, NULL);
    *ret_error = vmm_open(vmm, error, error_bytes);
    if (*ret_error == 0)
        return vmm;
    vmm_destroy(vmm);
    return NULL;
}

void vmm_destroy(struct vmm *vmm)
{
    if (!vmm)
        return;
    ASSERT(vmm->state == VMM_CREATED || vmm->state == VMM_ENDED);
    loop_unpost(vmm->options.loop, &vmm->attend);
    vmm_devices_close(vmm);
    for (unsigned i = 0; i < PCI_WIRES; i++)
        vmm_line_close(&vmm->pci_lines[i]);
    vmm_board_close(vmm);
    for (unsigned i = 0; vmm->vcpus && i < vmm->options.processors; i++)
        kvm_vcpu_close(&vmm->vcpus[i].kvm);
    vmm_irqs_close(&vmm->irqs);
    kvm_vm_close(&vmm->vm);
    kvm_host_close(&vmm->host);
    vmm_memory_close(&vmm->memory);
    for (unsigned kind = 0; kind < RESOURCE_KINDS; kind++)
        free(vmm->ranges[kind]);
    free(vmm->slots);
    free(vmm->pci);
    free(vmm->vcpus);
    free(vmm->mmio);
    free(vmm->pio);
    pthread_cond_destroy(&vmm->unparked);
    pthread_cond_destroy(&vmm->settled);
    pthread_mutex_destroy(&vmm->lock);
    free(vmm);
}
