/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A PC without its past: RAM from 0, a hole for devices from 3 GiB to 4 GiB, more RAM above; interrupt controllers and
 * timer in KVM; a 16550A, a clock, and registers to switch off, reset and panic, described by ACPI in the
 * hardware-reduced model. The keyboard controller is there for one command, reset, which some kernels try first.
 *
 *   0xc0000000  BARs below 4 GiB                    0xf0000000  virtio-mmio, 4 KiB each
 *   0xe0000000  ECAM, 1 MiB for each bus            0xfec00000  I/O APIC, local APIC at 0xfee00000 (KVM's)
 *   0xf8000000  power registers, panic register     0xfffbc000  four pages that KVM takes
 *
 * Wires: 0 to 15 as on a PC, 16 to 19 INTA# to INTD#, 5 to 7, 9 to 15, 21 to 23 virtio-mmio, 20 the power button.
 */
#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/acpi_power/acpi_power.h"
#include "devices/cmos/cmos.h"
#include "devices/i8042/i8042.h"
#include "devices/pvpanic/pvpanic.h"
#include "devices/serial/serial.h"
#include "machine/acpi_tables.h"
#include "machine/boot_x86.h"
#include "platform/kvm/kvm_x86.h"
#include "platform/linux/short_text.h"
#include "vmm/vmm_clock.h"
#include "vmm/vmm_loading.h"
#include "vmm/vmm_private.h"

#define HOLE_BASE UINT64_C(0xc0000000)
#define HOLE_END UINT64_C(0x100000000)
#define ECAM_BASE UINT64_C(0xe0000000)
#define ECAM_BUSES 64u
#define MMIO_BASE UINT64_C(0xf0000000)
#define MMIO_STRIDE UINT64_C(0x1000)
#define POWER_BASE UINT64_C(0xf8000000)
#define PANIC_BASE UINT64_C(0xf8001000)
#define IO_APIC_BASE UINT64_C(0xfec00000)
#define LOCAL_APIC_BASE UINT64_C(0xfee00000)
/* BARs above 4 GiB: behind RAM, and at least here, so that more memory does not move them. */
#define HIGH_BASE UINT64_C(0x8000000000)
#define HIGH_BYTES UINT64_C(0x4000000000)

#define PORTS_BASE 0x1000u /* below are the chips' */
#define PORTS_BYTES 0xf000u
#define SERIAL_PORT 0x3f8u
#define SERIAL_IRQ 4u
#define CMOS_PORT 0x70u
#define CMOS_IRQ 8u
#define I8042_DATA_PORT 0x60u
#define I8042_COMMAND_PORT 0x64u
#define I8042_IRQ 1u
#define POWER_IRQ 20u
#define PCI_WIRE_FIRST 16u
#define IO_APIC_PINS 24u

/* Pins of the I/O APIC that nothing else of this board has. */
static const uint8_t mmio_wires[] = {5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 21, 22, 23};

/* Records of the board's own, beside the chips': what KVM keeps for the machine, and for each processor in turn. */
#define BOARD_STATE_VM 0x4d56424bu        /* "KBVM" */
#define BOARD_STATE_PROCESSOR 0x5043424bu /* "KBCP" */

struct vmm_board {
    struct vmm *vmm;
    struct serial serial;
    struct uart_port serial_port;
    struct cmos cmos;
    struct vmm_clock clock;
    struct i8042 i8042;
    struct i8042_port i8042_port;
    struct acpi_power power;
    struct acpi_power_port power_port;
    struct pvpanic panic;
    struct pvpanic_port panic_port;
    struct vmm_line serial_line, cmos_line, i8042_line, power_line;
    struct kvm_x86_cpuid cpuid, processor_cpuid;
    struct kvm_x86_msr_list msrs;
    struct kvm_regs reset_regs;
    struct kvm_sregs reset_sregs;
    struct state_reader power_on; /* the records above, as of power-on; owned */
};

/* ---- places */

int vmm_board_address_bits(const struct kvm_host *host, unsigned *ret_bits)
{
    unsigned eax, ebx, ecx, edx;
    (void)host;
    if (!__get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx))
        return -ENOTSUP;
    *ret_bits = eax & 0xff;
    return 0;
}

unsigned vmm_board_vm_bits(unsigned address_bits)
{
    (void)address_bits;
    return 0; /* no choice here */
}

void vmm_board_places(unsigned address_bits, struct vmm_board_places *ret_places)
{
    uint64_t limit = UINT64_C(1) << (address_bits < 46 ? address_bits : 46);
    bool high = limit >= HIGH_BASE + HIGH_BYTES;
    *ret_places = (struct vmm_board_places){
        .ram = {.base = 0, .hole_base = HOLE_BASE, .hole_end = HOLE_END, .limit = high ? HIGH_BASE : limit},
        .mmio_low_base = HOLE_BASE,
        .mmio_low_bytes = ECAM_BASE - HOLE_BASE,
        .mmio_high_base = high ? HIGH_BASE : 0,
        .mmio_high_bytes = high ? HIGH_BYTES : 0,
        .pio_base = PORTS_BASE,
        .pio_bytes = PORTS_BYTES,
        .ecam_base = ECAM_BASE,
        .buses = ECAM_BUSES,
        .virtio_mmio_base = MMIO_BASE,
        .virtio_mmio_stride = MMIO_STRIDE,
        .virtio_mmio_max = ARRAY_SIZE(mmio_wires),
        .wires = IO_APIC_PINS,
        .pci_wires = {PCI_WIRE_FIRST, PCI_WIRE_FIRST + 1, PCI_WIRE_FIRST + 2, PCI_WIRE_FIRST + 3},
        .has_ports = true,
    };
}

uint32_t vmm_board_line_number(uint32_t gsi)
{
    return gsi;
}

uint32_t vmm_board_mmio_wire(unsigned index)
{
    ASSERT(index < ARRAY_SIZE(mmio_wires));
    return mmio_wires[index];
}

/* ---- chips' ports */

static size_t board_serial_output(struct uart_port *port, const uint8_t *bytes, size_t count)
{
    struct vmm *vmm = container_of(port, struct vmm_board, serial_port)->vmm;
    if (vmm->options.serial_output)
        vmm->options.serial_output(vmm->options.context, bytes, count);
    return count;
}

static void board_serial_room(struct uart_port *port)
{
    struct vmm *vmm = container_of(port, struct vmm_board, serial_port)->vmm;
    if (vmm->options.serial_room)
        vmm->options.serial_room(vmm->options.context);
}

static const struct uart_port_class board_serial_class = {.output = board_serial_output,
                                                          .input_room = board_serial_room};

static void board_cmos_alarm(struct vmm_clock *clock)
{
    cmos_alarm(&container_of(clock, struct vmm_board, clock)->cmos);
}

static void board_i8042_reset(struct i8042_port *port)
{
    vmm_tell(container_of(port, struct vmm_board, i8042_port)->vmm, VMM_EVENT_RESET, NULL);
}

static const struct i8042_port_class board_i8042_class = {.reset = board_i8042_reset};

static void board_power_off(struct acpi_power_port *port)
{
    vmm_tell(container_of(port, struct vmm_board, power_port)->vmm, VMM_EVENT_POWER_OFF, NULL);
}

static void board_power_reset(struct acpi_power_port *port)
{
    vmm_tell(container_of(port, struct vmm_board, power_port)->vmm, VMM_EVENT_RESET, NULL);
}

static const struct acpi_power_port_class board_power_class = {.power_off = board_power_off,
                                                               .reset = board_power_reset};

static void board_panicked(struct pvpanic_port *port, unsigned events)
{
    struct vmm *vmm = container_of(port, struct vmm_board, panic_port)->vmm;
    if (events & PVPANIC_PANICKED)
        vmm_tell(vmm, VMM_EVENT_CRASH, "its kernel has panicked");
    else if (events & PVPANIC_SHUTDOWN)
        vmm_tell(vmm, VMM_EVENT_POWER_OFF, NULL);
}

static const struct pvpanic_port_class board_panic_class = {.event = board_panicked};

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
    int r = kvm_x86_reserve_pages(&vmm->vm, KVM_X86_IDENTITY_MAP_ADDRESS, KVM_X86_TASK_STATE_ADDRESS);
    if (r == 0)
        r = kvm_x86_irqchip_open(&vmm->vm);
    if (r == 0)
        r = kvm_x86_pit_open(&vmm->vm, true);
    if (r == 0)
        r = kvm_x86_cpuid_supported(&vmm->host, &board->cpuid);
    if (r == 0)
        r = kvm_x86_msr_list(&vmm->host, &board->msrs);
    if (r < 0)
        snprintf(error, error_bytes, "KVM does not make a PC: %s", strerror(-r));
    return r;
}

int vmm_board_open_processor(struct vmm *vmm, struct kvm_vcpu *vcpu)
{
    struct vmm_board *board = vmm->board;
    const struct kvm_x86_topology topology = {
        .processors = vmm->options.processors,
        .tsc_deadline = kvm_host_check(&vmm->host, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
    };
    board->processor_cpuid = board->cpuid;
    kvm_x86_cpuid_filter(&board->processor_cpuid, &topology, vcpu->index);
    int r = kvm_x86_cpuid_set(vcpu, &board->processor_cpuid);
    if (r == 0 && vcpu->index == 0)
        r = kvm_x86_regs_get(vcpu, &board->reset_regs);
    if (r == 0 && vcpu->index == 0)
        r = kvm_x86_sregs_get(vcpu, &board->reset_sregs);
    return r;
}

static int board_open_lines(struct vmm *vmm)
{
    struct vmm_board *board = vmm->board;
    int r = vmm_irqs_begin(&vmm->irqs);
    if (r == 0)
        r = vmm_line_open(&board->serial_line, &vmm->irqs, SERIAL_IRQ);
    if (r == 0)
        r = vmm_line_open(&board->cmos_line, &vmm->irqs, CMOS_IRQ);
    if (r == 0)
        r = vmm_line_open(&board->i8042_line, &vmm->irqs, I8042_IRQ);
    return r == 0 ? vmm_line_open(&board->power_line, &vmm->irqs, POWER_IRQ) : r;
}

int vmm_board_finish(struct vmm *vmm, char *error, size_t error_bytes)
{
    struct vmm_board *board = vmm->board;
    int r = board_open_lines(vmm);
    if (r < 0) {
        snprintf(error, error_bytes, "KVM does not connect interrupts: %s", strerror(-r));
        return r;
    }
    board->serial_port.class = &board_serial_class;
    board->i8042_port.class = &board_i8042_class;
    board->power_port.class = &board_power_class;
    board->panic_port.class = &board_panic_class;
    vmm_clock_init(&board->clock, vmm, board_cmos_alarm);
    serial_init(&board->serial, &board->serial_port, &board->serial_line.line);
    cmos_init(&board->cmos, &board->clock.port, &board->cmos_line.line);
    i8042_init(&board->i8042, &board->i8042_port, &board->i8042_line.line);
    acpi_power_init(&board->power, &board->power_port, &board->power_line.line);
    pvpanic_init(&board->panic, &board->panic_port);
    const struct {
        struct bus *bus;
        uint64_t base, size;
        struct bus_device *device;
    } chips[] = {
        {vmm->pio, SERIAL_PORT, SERIAL_BYTES, &board->serial.device},
        {vmm->pio, CMOS_PORT, CMOS_BYTES, &board->cmos.device},
        {vmm->pio, I8042_DATA_PORT, 1, &board->i8042.data},
        {vmm->pio, I8042_COMMAND_PORT, 1, &board->i8042.command},
        {vmm->mmio, POWER_BASE, ACPI_POWER_BYTES, &board->power.device},
        {vmm->mmio, PANIC_BASE, PVPANIC_BYTES, &board->panic.device},
    };
    for (size_t i = 0; i < ARRAY_SIZE(chips); i++) {
        r = bus_add(chips[i].bus, chips[i].base, chips[i].size, chips[i].device);
        ASSERT(r == 0); /* the first on empty buses, without doorbells and memory */
    }
    return 0;
}

void vmm_board_close(struct vmm *vmm)
{
    struct vmm_board *board = vmm->board;
    if (!board)
        return;
    vmm_clock_done(&board->clock);
    vmm_line_close(&board->serial_line);
    vmm_line_close(&board->cmos_line);
    vmm_line_close(&board->i8042_line);
    vmm_line_close(&board->power_line);
    free((void *)(uintptr_t)board->power_on.bytes);
    free(board);
    vmm->board = NULL;
}

/* ---- loading */

static void board_plan(struct vmm *vmm, struct machine_plan *plan)
{
    const struct vmm_board_places *places = &vmm->places;
    *plan = (struct machine_plan){
        .processor_count = vmm->options.processors,
        .pci =
            {
                .ecam = {places->ecam_base, (uint64_t)places->buses << 20},
                .memory_low = {places->mmio_low_base, places->mmio_low_bytes},
                .memory_high = {places->mmio_high_base, places->mmio_high_bytes},
                .ports = {places->pio_base, places->pio_bytes},
            },
        .serial = {SERIAL_PORT, SERIAL_BYTES},
        .serial_irq = SERIAL_IRQ,
        .rtc = {CMOS_PORT, CMOS_BYTES},
        .rtc_irq = CMOS_IRQ,
        .panic = {PANIC_BASE, PVPANIC_BYTES},
        .power = {POWER_BASE, ACPI_POWER_BYTES},
        .power_irq = POWER_IRQ,
        .io_apic = IO_APIC_BASE,
        .local_apic = LOCAL_APIC_BASE,
        .has_i8042 = true,
    };
    for (unsigned i = 0; i < plan->processor_count; i++)
        plan->processor_ids[i] = i;
    for (unsigned i = 0; i < 4; i++)
        plan->pci.wires[i] = places->pci_wires[i];
    vmm_memory_plan(&vmm->memory, plan);
    vmm_devices_plan(vmm, plan);
}

static void board_segment(struct kvm_segment *to, const struct boot_x86_segment *from)
{
    *to = (struct kvm_segment){
        .limit = from->limit,
        .selector = from->selector,
        .type = from->type,
        .present = 1,
        .db = from->big,
        .s = !from->system,
        .l = from->wide,
        .g = from->limit > 0xfffff,
    };
}

static int board_enter(struct vmm *vmm, const struct boot_x86_entry *entry)
{
    const struct vmm_board *board = vmm->board;
    struct kvm_regs regs = board->reset_regs;
    struct kvm_sregs sregs = board->reset_sregs;
    regs.rip = entry->rip;
    regs.rbx = entry->rbx;
    regs.rsi = entry->rsi;
    regs.rsp = entry->rsp;
    regs.rflags = 2;
    board_segment(&sregs.cs, &entry->code);
    board_segment(&sregs.ds, &entry->data);
    sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
    board_segment(&sregs.tr, &entry->task);
    sregs.gdt.base = entry->gdt_base;
    sregs.gdt.limit = entry->gdt_limit;
    sregs.cr0 = entry->cr0;
    sregs.cr3 = entry->cr3;
    sregs.cr4 = entry->cr4;
    sregs.efer = entry->efer;
    int r = kvm_x86_sregs_set(&vmm->vcpus[0].kvm, &sregs);
    return r == 0 ? kvm_x86_regs_set(&vmm->vcpus[0].kvm, &regs) : r;
}

static int board_load_tables(struct vmm *vmm, const struct machine_plan *plan)
{
    uint8_t tables[ACPI_TABLES_BYTES_MAX];
    int size = acpi_tables_build(plan, BOOT_X86_TABLES, tables, sizeof(tables));
    return size < 0 ? size : guest_memory_write(&vmm->memory.map, BOOT_X86_TABLES, tables, (size_t)size);
}

int vmm_board_load(struct vmm *vmm, char *error, size_t error_bytes)
{
    struct boot_x86_entry entry;
    struct machine_plan plan;
    struct vmm_loading loading;
    const char *reason = "";
    int r = vmm_loading_open(&loading, vmm->options.kernel, vmm->options.initrd, error, error_bytes);
    if (r < 0)
        return r;
    board_plan(vmm, &plan);
    r = board_load_tables(vmm, &plan);
    const struct boot_x86_request request = {
        .memory = &vmm->memory.map,
        .plan = &plan,
        .kernel = &loading.kernel.image,
        .initrd = loading.initrd_image,
        .cmdline = vmm->options.cmdline ? vmm->options.cmdline : "console=ttyS0",
        .acpi_root = BOOT_X86_TABLES,
    };
    if (r == 0)
        r = boot_x86_load(&request, &entry, &reason);
    if (r == 0)
        r = board_enter(vmm, &entry);
    vmm_loading_close(&loading);
    if (r < 0)
        snprintf(error, error_bytes, "cannot load %s: %s", SHORTENED(vmm->options.kernel),
                 reason[0] ? reason : strerror(-r));
    return r;
}

/* ---- the life of the machine */

/* Interrupt controllers, timer, clock, and processors. */
static int board_save_kvm(struct vmm *vmm, struct state_writer *writer)
{
    size_t mark;
    int r = state_begin(writer, BOARD_STATE_VM, 1, &mark);
    if (r == 0)
        r = state_end(writer, mark, kvm_x86_vm_save(&vmm->vm, writer));
    for (unsigned i = 0; i < vmm->options.processors && r == 0; i++) {
        r = state_begin(writer, BOARD_STATE_PROCESSOR, 1, &mark);
        if (r == 0)
            r = state_end(writer, mark, kvm_x86_vcpu_save(&vmm->vcpus[i].kvm, &vmm->board->msrs, writer));
    }
    return r;
}

static int board_restore_kvm(struct vmm *vmm, const struct state_record *record, unsigned *processors, bool is_reset)
{
    struct state_reader reader = {.bytes = record->payload, .size = record->length};
    if (record->tag == BOARD_STATE_VM)
        return kvm_x86_vm_restore(&vmm->vm, &reader);
    if (*processors == vmm->options.processors)
        return -EBADMSG;
    struct kvm_vcpu *vcpu = &vmm->vcpus[(*processors)++].kvm;
    return is_reset ? kvm_x86_vcpu_reset(vcpu, &reader) : kvm_x86_vcpu_restore(vcpu, &reader);
}

static size_t board_kvm_bytes(const struct vmm *vmm)
{
    return vmm->options.processors * (KVM_X86_VCPU_STATE_BYTES_MAX + STATE_RECORD_HEADER_BYTES) +
           KVM_X86_VM_STATE_BYTES_MAX + STATE_RECORD_HEADER_BYTES;
}

/* What power-on looks like, for resets: KVM has no call that brings it back. */
int vmm_board_power_on(struct vmm *vmm)
{
    struct vmm_board *board = vmm->board;
    if (vmm->options.reset_ends)
        return 0;
    struct state_writer writer = {.bytes = malloc(board_kvm_bytes(vmm)), .size = board_kvm_bytes(vmm)};
    if (!writer.bytes)
        return -ENOMEM;
    int r = board_save_kvm(vmm, &writer);
    uint8_t *bytes = r == 0 ? realloc(writer.bytes, writer.used) : NULL;
    board->power_on = (struct state_reader){.bytes = bytes ? bytes : writer.bytes, .size = writer.used};
    return r;
}

int vmm_board_reset(struct vmm *vmm)
{
    struct vmm_board *board = vmm->board;
    struct state_reader reader = {.bytes = board->power_on.bytes, .size = board->power_on.size};
    struct state_record record;
    unsigned processors = 0;
    int r;
    serial_reset(&board->serial);
    cmos_reset(&board->cmos);
    i8042_reset(&board->i8042);
    acpi_power_reset(&board->power);
    while ((r = state_next(&reader, &record)) > 0) {
        r = board_restore_kvm(vmm, &record, &processors, true);
        if (r < 0)
            return r;
    }
    return r;
}

void vmm_board_resumes(struct vmm *vmm)
{
    /* A guest without KVM's clock has nothing that wants to know. */
    for (unsigned i = 0; i < vmm->options.processors; i++)
        kvm_x86_clock_was_paused(&vmm->vcpus[i].kvm);
}

size_t vmm_board_serial_input(struct vmm *vmm, const uint8_t *bytes, size_t count)
{
    return serial_input(&vmm->board->serial, bytes, count);
}

int vmm_board_power_button(struct vmm *vmm)
{
    acpi_power_press(&vmm->board->power);
    return 0;
}

size_t vmm_board_state_bytes(const struct vmm *vmm)
{
    return board_kvm_bytes(vmm) + SERIAL_STATE_BYTES_MAX + CMOS_STATE_BYTES_MAX + I8042_STATE_BYTES_MAX +
           ACPI_POWER_STATE_BYTES_MAX;
}

int vmm_board_save(struct vmm *vmm, struct state_writer *writer)
{
    const struct vmm_board *board = vmm->board;
    int r = serial_save(&board->serial, writer);
    if (r == 0)
        r = cmos_save(&board->cmos, writer);
    if (r == 0)
        r = i8042_save(&board->i8042, writer);
    if (r == 0)
        r = acpi_power_save(&board->power, writer);
    return r == 0 ? board_save_kvm(vmm, writer) : r;
}

int vmm_board_restore(struct vmm *vmm, struct state_reader *reader)
{
    struct vmm_board *board = vmm->board;
    struct state_record record;
    unsigned processors = 0;
    int r;
    while ((r = state_next(reader, &record)) > 0) {
        switch (record.tag) {
        case SERIAL_STATE_TAG:
            r = serial_load(&board->serial, &record);
            break;
        case CMOS_STATE_TAG:
            r = cmos_load(&board->cmos, &record);
            break;
        case I8042_STATE_TAG:
            r = i8042_load(&board->i8042, &record);
            break;
        case ACPI_POWER_STATE_TAG:
            r = acpi_power_load(&board->power, &record);
            break;
        case BOARD_STATE_VM:
        case BOARD_STATE_PROCESSOR:
            r = board_restore_kvm(vmm, &record, &processors, false);
            break;
        default:
            r = 0;
            break;
        }
        if (r < 0)
            return r;
    }
    if (r == 0 && processors != vmm->options.processors)
        return -EBADMSG;
    return r;
}
