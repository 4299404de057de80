/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * An arm64 machine as a device tree describes it: RAM from 1 GiB on, everything else below, BARs of 64 bits high above;
 * interrupt controller (GIC) and timer in KVM; a PL011, a PL031, a register to panic; PSCI, which KVM answers, to start
 * processors, to switch off and to reset.
 *
 *   0x08000000  distributor               0x09000000  PL011        0x10000000  BARs below 4 GiB
 *   0x08010000  processors (GICv2)        0x09010000  PL031        0x3eff0000  I/O ports of PCI
 *   0x08020000  GICv2m frame              0x09020000  pvpanic      0x3f000000  ECAM, 16 buses
 *   0x08080000  ITS (GICv3)               0x0a000000  virtio-mmio  0x40000000  RAM
 *   0x080a0000  redistributors (GICv3)                             0x8000000000  BARs above 4 GiB
 *
 * Shared interrupts, by their number from 0: 1 PL011, 2 PL031, 3 to 6 INTA# to INTD#, 16 to 47 virtio-mmio, from 64 on
 * what the GICv2m frame raises.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "devices/gicv2m/gicv2m.h"
#include "devices/pl011/pl011.h"
#include "devices/pl031/pl031.h"
#include "devices/pvpanic/pvpanic.h"
#include "machine/boot_arm64.h"
#include "platform/kvm/kvm_arm64.h"
#include "platform/linux/machine_fdt.h"
#include "platform/linux/short_text.h"
#include "vmm/vmm_clock.h"
#include "vmm/vmm_loading.h"
#include "vmm/vmm_private.h"

#define GIC_DISTRIBUTOR UINT64_C(0x08000000)
#define GIC_DISTRIBUTOR_BYTES UINT64_C(0x10000)
#define GIC_PROCESSOR UINT64_C(0x08010000)
#define GIC_PROCESSOR_BYTES UINT64_C(0x10000)
#define GIC_FRAME UINT64_C(0x08020000)
#define GIC_ITS UINT64_C(0x08080000)
#define GIC_ITS_BYTES UINT64_C(0x20000)
#define GIC_REDISTRIBUTORS UINT64_C(0x080a0000)
#define GIC_REDISTRIBUTOR_BYTES UINT64_C(0x20000)
#define PL011_BASE UINT64_C(0x09000000)
#define PL031_BASE UINT64_C(0x09010000)
#define PANIC_BASE UINT64_C(0x09020000)
#define MMIO_BASE UINT64_C(0x0a000000)
#define MMIO_STRIDE UINT64_C(0x1000)
#define LOW_BASE UINT64_C(0x10000000)
#define PORTS_BASE UINT64_C(0x3eff0000)
#define PORTS_BYTES UINT64_C(0x10000)
#define ECAM_BASE UINT64_C(0x3f000000)
#define ECAM_BUSES 16u
#define RAM_BASE UINT64_C(0x40000000)
#define HIGH_BASE UINT64_C(0x8000000000)
#define HIGH_BYTES UINT64_C(0x4000000000)

/* Shared interrupts, from 0. */
#define PL011_WIRE 1u
#define PL031_WIRE 2u
#define PCI_WIRE_FIRST 3u
#define MMIO_WIRE_FIRST 16u
#define MMIO_WIRES 32u
#define FRAME_WIRE_FIRST 64u
#define FRAME_WIRES 128u
#define WIRES (FRAME_WIRE_FIRST + FRAME_WIRES)
#define SHARED_FIRST 32u /* their first number in the GIC */

#define BOARD_STATE_GIC 0x4749424bu       /* "KBIG" */
#define BOARD_STATE_PROCESSOR 0x5043424bu /* "KBCP" */

#define RANDOM_BYTES 64u

struct vmm_board {
    struct vmm *vmm;
    struct kvm_arm64_gic gic;
    struct pl011 pl011;
    struct uart_port pl011_port;
    struct pl031 pl031;
    struct vmm_clock clock;
    struct pvpanic panic;
    struct pvpanic_port panic_port;
    struct gicv2m frame;
    struct gicv2m_port frame_port;
    struct vmm_line pl011_line, pl031_line;
    struct kvm_arm64_reg_list regs;
    uint64_t affinities[VMM_PROCESSORS_MAX];
    struct state_reader power_on; /* of the GIC; owned */
};

/* ---- places */

int vmm_board_address_bits(const struct kvm_host *host, unsigned *ret_bits)
{
    int bits = kvm_host_check(host, KVM_CAP_ARM_VM_IPA_SIZE);
    *ret_bits = bits > 0 ? (unsigned)bits : 40;
    return 0;
}

unsigned vmm_board_vm_bits(unsigned address_bits)
{
    return address_bits == 40 ? 0 : address_bits;
}

void vmm_board_places(unsigned address_bits, struct vmm_board_places *ret_places)
{
    uint64_t limit = UINT64_C(1) << (address_bits < 46 ? address_bits : 46);
    bool high = limit >= HIGH_BASE + HIGH_BYTES;
    *ret_places = (struct vmm_board_places){
        .ram = {.base = RAM_BASE,
                .hole_base = high ? HIGH_BASE : limit,
                .hole_end = high ? HIGH_BASE + HIGH_BYTES : limit,
                .limit = limit},
        .mmio_low_base = LOW_BASE,
        .mmio_low_bytes = PORTS_BASE - LOW_BASE,
        .mmio_high_base = high ? HIGH_BASE : 0,
        .mmio_high_bytes = high ? HIGH_BYTES : 0,
        .ecam_base = ECAM_BASE,
        .buses = ECAM_BUSES,
        .virtio_mmio_base = MMIO_BASE,
        .virtio_mmio_stride = MMIO_STRIDE,
        .virtio_mmio_max = MMIO_WIRES,
        .wires = WIRES,
        .pci_wires = {PCI_WIRE_FIRST, PCI_WIRE_FIRST + 1, PCI_WIRE_FIRST + 2, PCI_WIRE_FIRST + 3},
    };
}

uint32_t vmm_board_line_number(uint32_t gsi)
{
    return kvm_arm64_irq_number(KVM_ARM64_IRQ_SHARED, 0, gsi + SHARED_FIRST);
}

uint32_t vmm_board_mmio_wire(unsigned index)
{
    ASSERT(index < MMIO_WIRES);
    return MMIO_WIRE_FIRST + index;
}

/* ---- chips' ports */

static size_t board_pl011_output(struct uart_port *port, const uint8_t *bytes, size_t count)
{
    struct vmm *vmm = container_of(port, struct vmm_board, pl011_port)->vmm;
    if (vmm->options.serial_output)
        vmm->options.serial_output(vmm->options.context, bytes, count);
    return count;
}

static void board_pl011_room(struct uart_port *port)
{
    struct vmm *vmm = container_of(port, struct vmm_board, pl011_port)->vmm;
    if (vmm->options.serial_room)
        vmm->options.serial_room(vmm->options.context);
}

static const struct uart_port_class board_pl011_class = {.output = board_pl011_output, .input_room = board_pl011_room};

static void board_pl031_alarm(struct vmm_clock *clock)
{
    pl031_alarm(&container_of(clock, struct vmm_board, clock)->pl031);
}

static void board_panicked(struct pvpanic_port *port, unsigned events)
{
    struct vmm *vmm = container_of(port, struct vmm_board, panic_port)->vmm;
    if (events & PVPANIC_PANICKED)
        vmm_tell(vmm, VMM_EVENT_CRASH, "its kernel has panicked");
    else if (events & PVPANIC_SHUTDOWN)
        vmm_tell(vmm, VMM_EVENT_POWER_OFF, NULL);
}

static const struct pvpanic_port_class board_panic_class = {.event = board_panicked};

static void board_frame_raise(struct gicv2m_port *port, uint32_t interrupt)
{
    const struct vmm *vmm = container_of(port, struct vmm_board, frame_port)->vmm;
    uint32_t number = kvm_arm64_irq_number(KVM_ARM64_IRQ_SHARED, 0, interrupt);
    kvm_irq_line(&vmm->vm, number, true);
    kvm_irq_line(&vmm->vm, number, false);
}

static const struct gicv2m_port_class board_frame_class = {.raise = board_frame_raise};

/* ---- making */

int vmm_board_open(struct vmm *vmm, char *error, size_t error_bytes)
{
    struct vmm_board *board = calloc(1, sizeof(*board));
    if (!board) {
        snprintf(error, error_bytes, "out of memory");
        return -ENOMEM;
    }
    vmm->board = board;
    board->vmm = vmm;
    board->gic.handle = board->gic.its_handle = -1;
    return 0;
}

int vmm_board_open_processor(struct vmm *vmm, struct kvm_vcpu *vcpu)
{
    int r = kvm_arm64_vcpu_init(vcpu, KVM_ARM64_PSCI | (vcpu->index > 0 ? KVM_ARM64_POWER_OFF : 0));
    return r == 0 ? kvm_arm64_vcpu_affinity(vcpu, &vmm->board->affinities[vcpu->index]) : r;
}

static int board_open_gic(struct vmm *vmm, char *error, size_t error_bytes)
{
    struct vmm_board *board = vmm->board;
    unsigned version = vmm->options.gic_version;
    if (version == 0)
        version = kvm_arm64_gic_possible(&vmm->vm, 3) ? 3 : 2;
    const struct kvm_arm64_gic_config config = {
        .version = version,
        .interrupts = (unsigned)align_up(SHARED_FIRST + WIRES, 32),
        .processors = vmm->options.processors,
        .distributor = GIC_DISTRIBUTOR,
        .redistributors = GIC_REDISTRIBUTORS,
        .processor_interface = GIC_PROCESSOR,
        .its = version == 3 ? GIC_ITS : 0,
    };
    int r = kvm_arm64_gic_open(&board->gic, &vmm->vm, &config);
    if (r < 0)
        snprintf(error, error_bytes, "this host's KVM does not make a GICv%u for %u processors: %s", version,
                 vmm->options.processors, strerror(-r));
    vmm->irqs.source_matters = version == 3;
    vmm->irqs.frame_address = version == 2 ? GIC_FRAME + GICV2M_SETSPI : 0;
    return r;
}

static int board_open_lines(struct vmm *vmm)
{
    struct vmm_board *board = vmm->board;
    int r = vmm_irqs_begin(&vmm->irqs);
    if (r == 0)
        r = vmm_line_open(&board->pl011_line, &vmm->irqs, PL011_WIRE);
    return r == 0 ? vmm_line_open(&board->pl031_line, &vmm->irqs, PL031_WIRE) : r;
}

int vmm_board_finish(struct vmm *vmm, char *error, size_t error_bytes)
{
    struct vmm_board *board = vmm->board;
    int r = board_open_gic(vmm, error, error_bytes);
    if (r < 0)
        return r;
    r = board_open_lines(vmm);
    if (r < 0) {
        snprintf(error, error_bytes, "KVM does not connect interrupts: %s", strerror(-r));
        return r;
    }
    board->pl011_port.class = &board_pl011_class;
    board->panic_port.class = &board_panic_class;
    board->frame_port.class = &board_frame_class;
    vmm_clock_init(&board->clock, vmm, board_pl031_alarm);
    pl011_init(&board->pl011, &board->pl011_port, &board->pl011_line.line);
    pl031_init(&board->pl031, &board->clock.port, &board->pl031_line.line);
    pvpanic_init(&board->panic, &board->panic_port);
    gicv2m_init(&board->frame, &board->frame_port, SHARED_FIRST + FRAME_WIRE_FIRST, FRAME_WIRES);
    const struct {
        uint64_t base, size;
        struct bus_device *device;
    } chips[] = {
        {PL011_BASE, PL011_BYTES, &board->pl011.device},
        {PL031_BASE, PL031_BYTES, &board->pl031.device},
        {PANIC_BASE, PVPANIC_BYTES, &board->panic.device},
        {GIC_FRAME, GICV2M_BYTES, &board->frame.device},
    };
    for (size_t i = 0; i < ARRAY_SIZE(chips); i++) {
        if (chips[i].device == &board->frame.device && board->gic.version != 2)
            continue;
        r = bus_add(vmm->mmio, chips[i].base, chips[i].size, chips[i].device);
        ASSERT(r == 0); /* the first on an empty bus, without doorbells and memory */
    }
    return 0;
}

void vmm_board_close(struct vmm *vmm)
{
    struct vmm_board *board = vmm->board;
    if (!board)
        return;
    vmm_clock_done(&board->clock);
    vmm_line_close(&board->pl011_line);
    vmm_line_close(&board->pl031_line);
    kvm_arm64_gic_close(&board->gic);
    free((void *)(uintptr_t)board->power_on.bytes);
    free(board);
    vmm->board = NULL;
}

/* ---- loading */

static void board_plan(struct vmm *vmm, struct machine_plan *plan)
{
    const struct vmm_board *board = vmm->board;
    const struct vmm_board_places *places = &vmm->places;
    *plan = (struct machine_plan){
        .processor_count = vmm->options.processors,
        .pci =
            {
                .ecam = {places->ecam_base, (uint64_t)places->buses << 20},
                .memory_low = {places->mmio_low_base, places->mmio_low_bytes},
                .memory_high = {places->mmio_high_base, places->mmio_high_bytes},
                .ports = {0, PORTS_BYTES},
                .ports_base = PORTS_BASE,
            },
        .serial = {PL011_BASE, PL011_BYTES},
        .serial_irq = PL011_WIRE + SHARED_FIRST,
        .rtc = {PL031_BASE, PL031_BYTES},
        .rtc_irq = PL031_WIRE + SHARED_FIRST,
        .panic = {PANIC_BASE, PVPANIC_BYTES},
        .gic = board->gic.version == 3 ? MACHINE_GIC_V3 : MACHINE_GIC_V2,
        .gic_distributor = {GIC_DISTRIBUTOR, GIC_DISTRIBUTOR_BYTES},
    };
    if (plan->gic == MACHINE_GIC_V3) {
        plan->gic_redistributors =
            (struct machine_range){GIC_REDISTRIBUTORS, GIC_REDISTRIBUTOR_BYTES * vmm->options.processors};
        plan->gic_its = (struct machine_range){GIC_ITS, GIC_ITS_BYTES};
    } else {
        plan->gic_processor = (struct machine_range){GIC_PROCESSOR, GIC_PROCESSOR_BYTES};
        plan->gic_frame = (struct machine_range){GIC_FRAME, GICV2M_BYTES};
        plan->gic_frame_first = SHARED_FIRST + FRAME_WIRE_FIRST;
        plan->gic_frame_count = FRAME_WIRES;
    }
    for (unsigned i = 0; i < plan->processor_count; i++)
        plan->processor_ids[i] = board->affinities[i];
    for (unsigned i = 0; i < 4; i++)
        plan->pci.wires[i] = places->pci_wires[i] + SHARED_FIRST;
    vmm_memory_plan(&vmm->memory, plan);
    vmm_devices_plan(vmm, plan);
    for (unsigned i = 0; i < plan->virtio_mmio_count; i++)
        plan->virtio_mmio[i].irq += SHARED_FIRST;
}

static int board_put_tree(struct vmm *vmm, const struct machine_plan *plan, const struct boot_arm64_entry *entry)
{
    uint8_t random[RANDOM_BYTES];
    size_t used = 0;
    struct machine_fdt_options options = {.cmdline = vmm->options.cmdline ? vmm->options.cmdline : "console=ttyAMA0",
                                          .initrd = entry->initrd};
    if (getrandom(random, sizeof(random), 0) == (ssize_t)sizeof(random)) {
        options.random = random;
        options.random_bytes = sizeof(random);
    }
    uint8_t *tree = malloc(MACHINE_FDT_BYTES_MAX);
    int r = tree ? machine_fdt_build(plan, &options, tree, MACHINE_FDT_BYTES_MAX, &used) : -ENOMEM;
    if (r == 0)
        r = guest_memory_write(&vmm->memory.map, entry->x0, tree, used);
    free(tree);
    return r;
}

static int board_enter(struct vmm *vmm, const struct boot_arm64_entry *entry)
{
    struct kvm_vcpu *vcpu = &vmm->vcpus[0].kvm;
    int r = kvm_arm64_reg_set_u64(vcpu, kvm_arm64_reg_pc, entry->pc);
    if (r == 0)
        r = kvm_arm64_reg_set_u64(vcpu, kvm_arm64_reg_pstate, entry->pstate);
    return r == 0 ? kvm_arm64_reg_set_u64(vcpu, kvm_arm64_reg_x(0), entry->x0) : r;
}

int vmm_board_load(struct vmm *vmm, char *error, size_t error_bytes)
{
    struct boot_arm64_entry entry;
    struct machine_plan plan;
    struct vmm_loading loading;
    const char *reason = "";
    int r = vmm_loading_open(&loading, vmm->options.kernel, vmm->options.initrd, error, error_bytes);
    if (r < 0)
        return r;
    board_plan(vmm, &plan);
    if (vmm->options.cmdline && strlen(vmm->options.cmdline) >= BOOT_ARM64_CMDLINE_BYTES_MAX) {
        snprintf(error, error_bytes, "the command line is longer than Linux reads (%u bytes): shorten it",
                 BOOT_ARM64_CMDLINE_BYTES_MAX - 1);
        vmm_loading_close(&loading);
        return -E2BIG;
    }
    const struct boot_arm64_request request = {
        .memory = &vmm->memory.map,
        .plan = &plan,
        .kernel = &loading.kernel.image,
        .initrd = loading.initrd_image,
    };
    r = boot_arm64_load(&request, &entry, &reason);
    vmm_loading_close(&loading);
    if (r == 0) {
        reason = "";
        r = board_put_tree(vmm, &plan, &entry);
    }
    if (r == 0)
        r = board_enter(vmm, &entry);
    if (r < 0)
        snprintf(error, error_bytes, "cannot load %s: %s", SHORTENED(vmm->options.kernel),
                 reason[0] ? reason : strerror(-r));
    return r;
}

/* ---- the life of the machine */

static size_t board_gic_bytes(const struct vmm *vmm)
{
    return KVM_ARM64_GIC_STATE_BYTES_MAX(vmm->options.processors);
}

int vmm_board_power_on(struct vmm *vmm)
{
    struct vmm_board *board = vmm->board;
    if (vmm->options.reset_ends)
        return 0;
    struct state_writer writer = {.bytes = malloc(board_gic_bytes(vmm)), .size = board_gic_bytes(vmm)};
    if (!writer.bytes)
        return -ENOMEM;
    int r = kvm_arm64_gic_save(&board->gic, board->affinities, &writer);
    board->power_on = (struct state_reader){.bytes = writer.bytes, .size = writer.used};
    return r;
}

int vmm_board_reset(struct vmm *vmm)
{
    struct vmm_board *board = vmm->board;
    struct state_reader reader = {.bytes = board->power_on.bytes, .size = board->power_on.size};
    pl011_reset(&board->pl011);
    pl031_reset(&board->pl031);
    for (unsigned i = 0; i < vmm->options.processors; i++) {
        int r = kvm_arm64_vcpu_init(&vmm->vcpus[i].kvm, KVM_ARM64_PSCI | (i > 0 ? KVM_ARM64_POWER_OFF : 0));
        if (r < 0)
            return r;
    }
    return kvm_arm64_gic_restore(&board->gic, &reader);
}

void vmm_board_resumes(struct vmm *vmm)
{
    (void)vmm; /* the virtual counter goes on with the host's */
}

size_t vmm_board_serial_input(struct vmm *vmm, const uint8_t *bytes, size_t count)
{
    return pl011_input(&vmm->board->pl011, bytes, count);
}

int vmm_board_power_button(struct vmm *vmm)
{
    (void)vmm;
    return -ENOTSUP;
}

size_t vmm_board_state_bytes(const struct vmm *vmm)
{
    return vmm->options.processors * (KVM_ARM64_VCPU_STATE_BYTES_MAX + STATE_RECORD_HEADER_BYTES) +
           board_gic_bytes(vmm) + STATE_RECORD_HEADER_BYTES + PL011_STATE_BYTES_MAX + PL031_STATE_BYTES_MAX;
}

static int board_save_processor(struct vmm *vmm, unsigned index, struct state_writer *writer)
{
    size_t mark;
    int r = state_begin(writer, BOARD_STATE_PROCESSOR, 1, &mark);
    return r == 0 ? state_end(writer, mark, kvm_arm64_vcpu_save(&vmm->vcpus[index].kvm, &vmm->board->regs, writer)) : r;
}

static int board_save_gic(struct vmm *vmm, struct state_writer *writer)
{
    const struct vmm_board *board = vmm->board;
    size_t mark;
    int r = state_begin(writer, BOARD_STATE_GIC, 1, &mark);
    return r == 0 ? state_end(writer, mark, kvm_arm64_gic_save(&board->gic, board->affinities, writer)) : r;
}

int vmm_board_save(struct vmm *vmm, struct state_writer *writer)
{
    const struct vmm_board *board = vmm->board;
    int r = pl011_save(&board->pl011, writer);
    if (r == 0)
        r = pl031_save(&board->pl031, writer);
    for (unsigned i = 0; i < vmm->options.processors && r == 0; i++)
        r = board_save_processor(vmm, i, writer);
    return r == 0 ? board_save_gic(vmm, writer) : r; /* after the processors: it is restored after them, too */
}

static int board_restore_one(struct vmm *vmm, const struct state_record *record, unsigned *processors)
{
    struct vmm_board *board = vmm->board;
    struct state_reader reader = {.bytes = record->payload, .size = record->length};
    switch (record->tag) {
    case PL011_STATE_TAG:
        return pl011_load(&board->pl011, record);
    case PL031_STATE_TAG:
        return pl031_load(&board->pl031, record);
    case BOARD_STATE_GIC:
        return kvm_arm64_gic_restore(&board->gic, &reader);
    case BOARD_STATE_PROCESSOR:
        if (*processors == vmm->options.processors)
            return -EBADMSG;
        return kvm_arm64_vcpu_restore(&vmm->vcpus[(*processors)++].kvm, &reader);
    default:
        return 0;
    }
}

int vmm_board_restore(struct vmm *vmm, struct state_reader *reader)
{
    struct state_record record;
    unsigned processors = 0;
    int r;
    while ((r = state_next(reader, &record)) > 0) {
        r = board_restore_one(vmm, &record, &processors);
        if (r < 0)
            return r;
    }
    return r == 0 && processors != vmm->options.processors ? -EBADMSG : r;
}
