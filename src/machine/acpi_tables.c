/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The hardware-reduced model (4.1) fits a machine whose only power management is to switch itself off: no PM timer, no
 * SCI, no ACPI enable handshake; instead sleep and reset registers of one byte each. Linux takes it as a promise that
 * there is no PIC and no PIT either, and asks for none.
 *
 * Interrupts of the I/O APIC are numbered as GSIs from 0, without overrides: there is no 8254 whose interrupt another
 * pin would have, and devices say themselves how theirs are triggered. Linux takes wires of PCI for active low, as on
 * a bus of old; I/O APICs of virtual machines do not look at polarity.
 *
 * Limits
 *
 * A device with a bounce range cannot be told to an x86-64 system: ACPI has no word for it.
 */
#include "machine/acpi_tables.h"

#include <errno.h>

#include "machine/acpi_aml.h"

#define OEM_ID "BKPLN "
#define OEM_TABLE_ID "MACHINE "
#define CREATOR_ID "BKPL"

#define RSDP_BYTES 36u
#define HEADER_BYTES 36u
#define TABLE_ALIGNMENT 16u

/* Offsets of the common header (5.2.6). */
enum {
    HEADER_LENGTH = 4,
    HEADER_REVISION = 8,
    HEADER_CHECKSUM = 9,
    HEADER_OEM_ID = 10,
    HEADER_OEM_TABLE_ID = 16,
    HEADER_OEM_REVISION = 24,
    HEADER_CREATOR_ID = 28,
    HEADER_CREATOR_REVISION = 32,
};

struct acpi_tables {
    struct aml out;
    uint64_t address; /* of the first byte */
};

static uint8_t acpi_checksum(const uint8_t *bytes, size_t count)
{
    unsigned sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += bytes[i];
    return (uint8_t)(0x100 - (sum & 0xff));
}

static void acpi_number(struct aml *out, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        aml_byte(out, (uint8_t)(value >> (8 * i)));
}

static void acpi_zeros(struct aml *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        aml_byte(out, 0);
}

/* Begin a table; its place in the buffer. */
static size_t acpi_begin(struct acpi_tables *tables, const char *signature, uint8_t revision)
{
    struct aml *out = &tables->out;
    acpi_zeros(out, align_up(out->used, TABLE_ALIGNMENT) - out->used);
    size_t at = out->used;
    aml_bytes(out, signature, 4);
    acpi_number(out, 0, 4);
    aml_byte(out, revision);
    aml_byte(out, 0);
    aml_bytes(out, OEM_ID, 6);
    aml_bytes(out, OEM_TABLE_ID, 8);
    acpi_number(out, 1, 4);
    aml_bytes(out, CREATOR_ID, 4);
    acpi_number(out, 1, 4);
    return at;
}

/* End it: length and checksum. Returns its address. */
static uint64_t acpi_end(struct acpi_tables *tables, size_t at)
{
    struct aml *out = &tables->out;
    if (!out->overflown) {
        put_le32(out->bytes + at + HEADER_LENGTH, (uint32_t)(out->used - at));
        out->bytes[at + HEADER_CHECKSUM] = acpi_checksum(out->bytes + at, out->used - at);
    }
    return tables->address + at;
}

/* ---- FADT (5.2.9) */

#define FADT_REVISION 6
#define FADT_MINOR 5
#define FADT_BYTES 276u
enum {
    FADT_DSDT = 40,
    FADT_PROFILE = 45,
    FADT_BOOT_FLAGS = 109,
    FADT_FLAGS = 112,
    FADT_RESET_REGISTER = 116,
    FADT_RESET_VALUE = 128,
    FADT_MINOR_VERSION = 131,
    FADT_X_DSDT = 140,
    FADT_SLEEP_CONTROL = 244,
    FADT_SLEEP_STATUS = 256,
};
#define FADT_PROFILE_SERVER 4
#define FADT_BOOT_8042 0x2u
#define FADT_BOOT_NO_VGA 0x4u
#define FADT_BOOT_NO_ASPM 0x10u /* links that are not there save no power */
#define FADT_BOOT_NO_RTC 0x20u
#define FADT_WBINVD 0x1u
#define FADT_RESET_SUPPORTED 0x400u
#define FADT_POWER_BUTTON_IS_DEVICE 0x10u
#define FADT_SLEEP_BUTTON_IS_DEVICE 0x20u
#define FADT_HARDWARE_REDUCED 0x100000u
#define ACPI_RESET_VALUE 1

/* Registers of devices/acpi_power. */
enum { POWER_SLEEP_CONTROL = 0, POWER_SLEEP_STATUS = 1, POWER_RESET = 2, POWER_EVENT = 3, POWER_BYTES = 4 };

/* Generic Address Structure (5.2.3.2): system memory, 8 bits, byte access. */
static void acpi_put_address(uint8_t *to, uint64_t address)
{
    to[0] = 0;
    to[1] = 8;
    to[2] = 0;
    to[3] = 1;
    put_le64(to + 4, address);
}

static uint64_t acpi_fadt(struct acpi_tables *tables, const struct machine_plan *plan, uint64_t dsdt)
{
    uint8_t body[FADT_BYTES] = {0};
    uint64_t power = plan->power.base;
    put_le32(body + FADT_DSDT, (uint32_t)dsdt);
    put_le64(body + FADT_X_DSDT, dsdt);
    body[FADT_PROFILE] = FADT_PROFILE_SERVER;
    uint32_t boot = FADT_BOOT_NO_VGA | FADT_BOOT_NO_ASPM | (plan->has_i8042 ? FADT_BOOT_8042 : 0) |
                    (plan->rtc.size == 0 ? FADT_BOOT_NO_RTC : 0);
    uint32_t flags = FADT_WBINVD | FADT_HARDWARE_REDUCED | FADT_POWER_BUTTON_IS_DEVICE | FADT_SLEEP_BUTTON_IS_DEVICE;
    if (plan->power.size > 0) {
        flags |= FADT_RESET_SUPPORTED;
        acpi_put_address(body + FADT_RESET_REGISTER, power + POWER_RESET);
        body[FADT_RESET_VALUE] = ACPI_RESET_VALUE;
        acpi_put_address(body + FADT_SLEEP_CONTROL, power + POWER_SLEEP_CONTROL);
        acpi_put_address(body + FADT_SLEEP_STATUS, power + POWER_SLEEP_STATUS);
    }
    put_le16(body + FADT_BOOT_FLAGS, (uint16_t)boot);
    put_le32(body + FADT_FLAGS, flags);
    body[FADT_MINOR_VERSION] = FADT_MINOR;
    size_t at = acpi_begin(tables, "FACP", FADT_REVISION);
    aml_bytes(&tables->out, body + HEADER_BYTES, sizeof(body) - HEADER_BYTES);
    return acpi_end(tables, at);
}

/* ---- MADT (5.2.12) */

#define MADT_REVISION 5
#define MADT_ENABLED 1u
#define MADT_LOCAL_APIC_MAX 254u /* higher identifiers need an entry of another kind */

static uint64_t acpi_madt(struct acpi_tables *tables, const struct machine_plan *plan)
{
    struct aml *out = &tables->out;
    size_t at = acpi_begin(tables, "APIC", MADT_REVISION);
    acpi_number(out, plan->local_apic, 4);
    acpi_number(out, 0, 4); /* no PICs */
    for (unsigned i = 0; i < plan->processor_count; i++) {
        if (plan->processor_ids[i] > MADT_LOCAL_APIC_MAX) {
            aml_byte(out, 9); /* processor local x2APIC (5.2.12.12) */
            aml_byte(out, 16);
            acpi_number(out, 0, 2);
            acpi_number(out, plan->processor_ids[i], 4);
            acpi_number(out, MADT_ENABLED, 4);
            acpi_number(out, i, 4);
            continue;
        }
        aml_byte(out, 0); /* processor local APIC (5.2.12.2) */
        aml_byte(out, 8);
        aml_byte(out, (uint8_t)i);
        aml_byte(out, (uint8_t)plan->processor_ids[i]);
        acpi_number(out, MADT_ENABLED, 4);
    }
    aml_byte(out, 1); /* I/O APIC (5.2.12.3) */
    aml_byte(out, 12);
    aml_byte(out, 0);
    aml_byte(out, 0);
    acpi_number(out, plan->io_apic, 4);
    acpi_number(out, 0, 4); /* GSI of its first pin */
    return acpi_end(tables, at);
}

/* ---- MCFG (PCI Firmware 3.3, 4.1.2) */

static uint64_t acpi_mcfg(struct acpi_tables *tables, const struct machine_plan *plan)
{
    struct aml *out = &tables->out;
    size_t at = acpi_begin(tables, "MCFG", 1);
    acpi_zeros(out, 8);
    acpi_number(out, plan->pci.ecam.base, 8);
    acpi_number(out, 0, 2); /* segment */
    aml_byte(out, 0);
    aml_byte(out, (uint8_t)((plan->pci.ecam.size >> 20) - 1));
    acpi_zeros(out, 4);
    return acpi_end(tables, at);
}

/* ---- DSDT */

static void acpi_name_eisa(struct aml *out, const char *name, const char *id)
{
    aml_name(out, name);
    aml_eisa_id(out, id);
}

static void acpi_name_integer(struct aml *out, const char *name, uint64_t value)
{
    aml_name(out, name);
    aml_integer(out, value);
}

static void acpi_window(struct aml *out, enum aml_space space, const struct machine_range *range)
{
    if (range->size > 0)
        aml_resource_window(out, space, range->base, range->size);
}

/* Where each pin of each device on bus 0 goes (6.2.13): the root's swizzle. */
static void acpi_prt(struct aml *out, const struct machine_plan *plan)
{
    aml_name(out, "_PRT");
    struct aml_mark all = aml_package(out, 32 * 4);
    for (unsigned device = 0; device < 32; device++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            struct aml_mark one = aml_package(out, 4);
            aml_integer(out, device << 16 | 0xffffu);
            aml_integer(out, pin);
            aml_integer(out, 0);
            aml_integer(out, plan->pci.wires[(device + pin) % 4]);
            aml_end(out, one);
        }
    }
    aml_end(out, all);
}

/* PCI Firmware 3.3, 4.5.1: what the system may control itself: hot plug, PME, AER and the PCI Express capability. */
#define OSC_GRANTED 0x1du
/* ACPI 6.5, 6.2.11.4, table 6.13: errors in the first word. */
#define OSC_UNKNOWN_UUID 0x4u
#define OSC_UNKNOWN_REVISION 0x8u
#define OSC_MASKED 0x10u

static void acpi_osc_error(struct aml *out, uint32_t error)
{
    aml_operation(out, AML_OPERATION_OR);
    aml_name_string(out, "CDW1");
    aml_integer(out, error);
    aml_name_string(out, "CDW1");
}

/* If (Local0 != CDW3), or the revision is not 1: Arg1. */
static void acpi_osc_check(struct aml *out, bool revision)
{
    struct aml_mark check = aml_if(out);
    aml_operation(out, AML_OPERATION_NOT);
    aml_operation(out, AML_OPERATION_EQUAL);
    if (revision) {
        aml_argument(out, 1);
        aml_integer(out, 1);
    } else {
        aml_local(out, 0);
        aml_name_string(out, "CDW3");
    }
    acpi_osc_error(out, revision ? OSC_UNKNOWN_REVISION : OSC_MASKED);
    aml_end(out, check);
}

/* 6.2.11: Arg0 is an UUID, Arg1 a revision, Arg3 three words: status, what the system supports, what it wants. */
static void acpi_osc(struct aml *out)
{
    static const uint8_t uuid[16] = {0x5b, 0x4d, 0xdb, 0x33, 0x5b, 0x1f, 0x1c, 0x40,
                                     0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66};
    struct aml_mark method = aml_method(out, "_OSC", 4 | AML_SERIALIZED);
    aml_dword_field(out, 3, 0, "CDW1");
    struct aml_mark known = aml_if(out);
    aml_operation(out, AML_OPERATION_EQUAL);
    aml_argument(out, 0);
    aml_buffer(out, uuid, sizeof(uuid));
    aml_dword_field(out, 3, 8, "CDW3");
    aml_operation(out, AML_OPERATION_AND);
    aml_name_string(out, "CDW3");
    aml_integer(out, OSC_GRANTED);
    aml_local(out, 0);
    acpi_osc_check(out, true);
    acpi_osc_check(out, false);
    aml_operation(out, AML_OPERATION_STORE);
    aml_local(out, 0);
    aml_name_string(out, "CDW3");
    aml_end(out, known);
    struct aml_mark unknown = aml_else(out);
    acpi_osc_error(out, OSC_UNKNOWN_UUID);
    aml_end(out, unknown);
    aml_return_argument(out, 3);
    aml_end(out, method);
}

static void acpi_pci(struct aml *out, const struct machine_plan *plan)
{
    const struct machine_range buses = {.base = 0, .size = plan->pci.ecam.size >> 20};
    struct aml_mark device = aml_device(out, "PCI0");
    acpi_name_eisa(out, "_HID", "PNP0A08");
    acpi_name_eisa(out, "_CID", "PNP0A03");
    acpi_name_integer(out, "_SEG", 0);
    acpi_name_integer(out, "_BBN", 0);
    acpi_name_integer(out, "_UID", 0);
    aml_name(out, "_CRS");
    struct aml_resources resources = aml_resources(out);
    acpi_window(out, AML_BUSES, &buses);
    aml_resource_ports(out, 0xcf8, 8);
    acpi_window(out, AML_PORTS, &plan->pci.ports);
    acpi_window(out, AML_MEMORY, &plan->pci.memory_low);
    acpi_window(out, AML_MEMORY, &plan->pci.memory_high);
    aml_resources_end(out, resources);
    acpi_prt(out, plan);
    acpi_osc(out);
    aml_end(out, device);

    /* PCI Firmware 3.3, 4.1.2: ECAM is to be reserved by a device of the motherboard. */
    device = aml_device(out, "ECAM");
    acpi_name_eisa(out, "_HID", "PNP0C02");
    acpi_name_integer(out, "_UID", 0);
    aml_name(out, "_CRS");
    resources = aml_resources(out);
    aml_resource_memory_32(out, (uint32_t)plan->pci.ecam.base, (uint32_t)plan->pci.ecam.size);
    aml_resources_end(out, resources);
    aml_end(out, device);
}

static void acpi_port_device(struct aml *out, const char *name, const char *id, const struct machine_range *ports,
                             uint32_t irq)
{
    struct aml_mark device = aml_device(out, name);
    acpi_name_eisa(out, "_HID", id);
    acpi_name_integer(out, "_UID", 0);
    aml_name(out, "_CRS");
    struct aml_resources resources = aml_resources(out);
    aml_resource_ports(out, (uint16_t)ports->base, (uint8_t)ports->size);
    if (irq != 0)
        aml_resource_interrupt(out, irq, true);
    aml_resources_end(out, resources);
    aml_end(out, device);
}

static void acpi_memory_device(struct aml *out, const char *name, const char *id, unsigned number,
                               const struct machine_range *memory, uint32_t irq)
{
    struct aml_mark device = aml_device(out, name);
    aml_name(out, "_HID");
    aml_string(out, id);
    acpi_name_integer(out, "_UID", number);
    acpi_name_integer(out, "_CCA", 1);
    aml_name(out, "_CRS");
    struct aml_resources resources = aml_resources(out);
    ASSERT(range_within(memory->base, memory->size, UINT64_C(1) << 32));
    aml_resource_memory_32(out, (uint32_t)memory->base, (uint32_t)memory->size);
    if (irq != 0)
        aml_resource_interrupt(out, irq, true);
    aml_resources_end(out, resources);
    aml_end(out, device);
}

static void acpi_virtio_mmio(struct aml *out, const struct machine_plan *plan)
{
    for (unsigned i = 0; i < plan->virtio_mmio_count; i++) {
        const struct machine_virtio_mmio *each = &plan->virtio_mmio[i];
        const struct machine_range range = {.base = each->base, .size = each->size};
        const char name[] = {'V', 'R', (char)('0' + i / 10), (char)('0' + i % 10), '\0'};
        acpi_memory_device(out, name, "LNRO0005", i, &range, each->irq);
    }
}

/* The power button (4.8.2.2.1.2), and the generic event device that hears of it (5.6.9). */
static void acpi_power_button(struct aml *out, const struct machine_plan *plan)
{
    if (plan->power_irq == 0)
        return;
    struct aml_mark device = aml_device(out, "PWRB");
    acpi_name_eisa(out, "_HID", "PNP0C0C");
    acpi_name_integer(out, "_UID", 0);
    aml_end(out, device);

    device = aml_device(out, "GED_");
    aml_name(out, "_HID");
    aml_string(out, "ACPI0013");
    acpi_name_integer(out, "_UID", 0);
    aml_name(out, "_CRS");
    struct aml_resources resources = aml_resources(out);
    aml_resource_interrupt(out, plan->power_irq, true);
    aml_resources_end(out, resources);
    aml_memory_field(out, "EREG", plan->power.base, POWER_BYTES, POWER_EVENT, "ESTS");
    struct aml_mark method = aml_method(out, "_EVT", 1);
    aml_store(out, 1, "ESTS"); /* heard */
    aml_notify(out, "PWRB", 0x80);
    aml_end(out, method);
    aml_end(out, device);
}

/* 8.4: each processor of the MADT, by the same UID. */
static void acpi_processors(struct aml *out, const struct machine_plan *plan)
{
    static const char digits[] = "0123456789ABCDEF";
    for (unsigned i = 0; i < plan->processor_count; i++) {
        const char name[] = {'C', '0', digits[i / 16], digits[i % 16], '\0'};
        struct aml_mark device = aml_device(out, name);
        aml_name(out, "_HID");
        aml_string(out, "ACPI0007");
        acpi_name_integer(out, "_UID", i);
        aml_end(out, device);
    }
}

static uint64_t acpi_dsdt(struct acpi_tables *tables, const struct machine_plan *plan)
{
    struct aml *out = &tables->out;
    size_t at = acpi_begin(tables, "DSDT", 2);
    struct aml_mark scope = aml_scope(out, "\\_SB");
    acpi_processors(out, plan);
    if (plan->pci.ecam.size > 0)
        acpi_pci(out, plan);
    if (plan->serial.size > 0)
        acpi_port_device(out, "COM1", "PNP0501", &plan->serial, plan->serial_irq);
    if (plan->rtc.size > 0)
        acpi_port_device(out, "RTC", "PNP0B00", &plan->rtc, plan->rtc_irq);
    if (plan->panic.size > 0)
        acpi_memory_device(out, "PANC", "QEMU0001", 0, &plan->panic, 0);
    acpi_virtio_mmio(out, plan);
    acpi_power_button(out, plan);
    aml_end(out, scope);
    /* 7.4.2: what goes into the sleep control register to switch off. */
    aml_name(out, "\\_S5");
    struct aml_mark package = aml_package(out, 4);
    aml_integer(out, 5);
    aml_integer(out, 5);
    aml_integer(out, 0);
    aml_integer(out, 0);
    aml_end(out, package);
    return acpi_end(tables, at);
}

/* ---- the roots */

static void acpi_rsdp(struct acpi_tables *tables, uint64_t xsdt)
{
    uint8_t *rsdp = tables->out.bytes;
    if (tables->out.overflown)
        return;
    static const uint8_t signature[] = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
    static const uint8_t oem_id[] = OEM_ID;
    memcpy(rsdp, signature, sizeof(signature));
    memcpy(rsdp + 9, oem_id, sizeof(oem_id) - 1);
    rsdp[15] = 2;
    put_le32(rsdp + 20, RSDP_BYTES);
    put_le64(rsdp + 24, xsdt);
    rsdp[8] = acpi_checksum(rsdp, 20);
    rsdp[32] = acpi_checksum(rsdp, RSDP_BYTES);
}

int acpi_tables_build(const struct machine_plan *plan, uint64_t address, uint8_t *buffer, size_t size)
{
    struct acpi_tables tables = {.out = {.bytes = buffer, .size = size}, .address = address};
    uint64_t entries[3];
    unsigned count = 0;
    acpi_zeros(&tables.out, RSDP_BYTES);
    uint64_t dsdt = acpi_dsdt(&tables, plan);
    entries[count++] = acpi_fadt(&tables, plan, dsdt);
    entries[count++] = acpi_madt(&tables, plan);
    if (plan->pci.ecam.size > 0)
        entries[count++] = acpi_mcfg(&tables, plan);
    size_t at = acpi_begin(&tables, "XSDT", 1);
    for (unsigned i = 0; i < count; i++)
        acpi_number(&tables.out, entries[i], 8);
    acpi_rsdp(&tables, acpi_end(&tables, at));
    return tables.out.overflown ? -ENOSPC : (int)tables.out.used;
}
