/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Tables are found as a system finds them, from the RSDP on; iasl, the reference, reads and compiles them again. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "machine/acpi_tables.h"
#include "plan_rig.h"

#define ADDRESS UINT64_C(0xe0000)

static uint8_t tables[ACPI_TABLES_BYTES_MAX];
static size_t used;

static void build(const struct machine_plan *plan)
{
    int r = acpi_tables_build(plan, ADDRESS, tables, sizeof(tables));
    assert_true(r > 0);
    used = (size_t)r;
}

static unsigned sum(const uint8_t *bytes, size_t count)
{
    unsigned total = 0;
    for (size_t i = 0; i < count; i++)
        total += bytes[i];
    return total & 0xff;
}

/* The table at @address, whose length and checksum hold. */
static const uint8_t *table_at(uint64_t address)
{
    assert_true(address >= ADDRESS && range_within(address - ADDRESS, 36, used));
    const uint8_t *table = tables + (address - ADDRESS);
    assert_true(range_within(address - ADDRESS, get_le32(table + 4), used));
    assert_int_equal(sum(table, get_le32(table + 4)), 0);
    assert_int_equal(address % 16, 0);
    return table;
}

static const uint8_t *find(const char *signature)
{
    const uint8_t *xsdt = table_at(get_le64(tables + 24));
    assert_memory_equal(xsdt, "XSDT", 4);
    for (uint32_t at = 36; at < get_le32(xsdt + 4); at += 8) {
        const uint8_t *table = table_at(get_le64(xsdt + at));
        if (memcmp(table, signature, 4) == 0)
            return table;
    }
    return NULL;
}

static bool has_bytes(const char *bytes, size_t count)
{
    const uint8_t *dsdt = table_at(get_le64(find("FACP") + 140));
    for (size_t i = 36; i + count <= get_le32(dsdt + 4); i++) {
        if (memcmp(dsdt + i, bytes, count) == 0)
            return true;
    }
    return false;
}

static void the_root_is_found_and_every_checksum_holds(void **state)
{
    (void)state;
    const struct machine_plan plan = plan_rig_x86(4);
    build(&plan);
    assert_memory_equal(tables, "RSD PTR ", 8);
    assert_int_equal(sum(tables, 20), 0);
    assert_int_equal(sum(tables, 36), 0);
    assert_int_equal(tables[15], 2);
    assert_non_null(find("FACP"));
    assert_non_null(find("APIC"));
    assert_non_null(find("MCFG"));
    assert_memory_equal(table_at(get_le64(find("FACP") + 140)), "DSDT", 4);
}

static void hardware_is_reduced_and_power_goes_by_registers(void **state)
{
    (void)state;
    struct machine_plan plan = plan_rig_x86(4);
    build(&plan);
    const uint8_t *fadt = find("FACP");
    assert_int_equal(get_le32(fadt + 4), 276);
    assert_int_equal(get_le32(fadt + 112) & 0x100400, 0x100400);
    assert_int_equal(get_le64(fadt + 116 + 4), plan.power.base + 2);
    assert_int_equal(fadt[128], 1);
    assert_int_equal(get_le64(fadt + 244 + 4), plan.power.base);
    assert_int_equal(get_le64(fadt + 256 + 4), plan.power.base + 1);
    assert_int_equal(get_le16(fadt + 109) & 0x22, 0x02);
    plan.has_i8042 = false;
    plan.rtc.size = plan.power.size = 0;
    build(&plan);
    fadt = find("FACP");
    assert_int_equal(get_le16(fadt + 109) & 0x22, 0x20);
    assert_int_equal(get_le32(fadt + 112) & 0x400, 0);
    assert_int_equal(get_le64(fadt + 244 + 4), 0);
}

static void processors_have_entries_of_the_kind_that_holds_their_number(void **state)
{
    (void)state;
    struct machine_plan plan = plan_rig_x86(64);
    plan.processor_ids[62] = 254;
    plan.processor_ids[63] = 255;
    build(&plan);
    const uint8_t *madt = find("APIC");
    uint32_t at = 44;
    assert_int_equal(get_le32(madt + 36), plan.local_apic);
    assert_int_equal(get_le32(madt + 40), 0);
    for (unsigned i = 0; i < 64; i++, at += madt[at + 1]) {
        bool is_wide = i == 63;
        assert_int_equal(madt[at], is_wide ? 9 : 0);
        assert_int_equal(is_wide ? get_le32(madt + at + 12) : madt[at + 2], i);
        assert_int_equal(is_wide ? get_le32(madt + at + 4) : madt[at + 3], plan.processor_ids[i]);
        assert_int_equal(get_le32(madt + at + (is_wide ? 8 : 4)), 1);
    }
    assert_int_equal(madt[at], 1);
    assert_int_equal(get_le32(madt + at + 4), plan.io_apic);
    assert_int_equal(at + madt[at + 1], get_le32(madt + 4));
}

static void ecam_is_told_where_there_is_pci(void **state)
{
    (void)state;
    struct machine_plan plan = plan_rig_x86(1);
    build(&plan);
    const uint8_t *mcfg = find("MCFG");
    assert_int_equal(get_le64(mcfg + 44), plan.pci.ecam.base);
    assert_int_equal(mcfg[54], 0);
    assert_int_equal(mcfg[55], 255);
    plan.pci.ecam.size = 0;
    build(&plan);
    assert_null(find("MCFG"));
    assert_false(has_bytes("PCI0", 4));
}

static void devices_are_there_when_the_plan_has_them(void **state)
{
    (void)state;
    struct machine_plan plan = plan_rig_x86(2);
    build(&plan);
    assert_true(has_bytes("VR02", 4) && has_bytes("LNRO0005", 9) && has_bytes("ACPI0013", 9) && has_bytes("C001", 4));
    assert_true(has_bytes("COM1", 4) && has_bytes("RTC_", 4) && has_bytes("QEMU0001", 9));
    assert_false(has_bytes("VR03", 4) || has_bytes("C002", 4));
    plan.virtio_mmio_count = 0;
    plan.serial.size = plan.rtc.size = plan.panic.size = 0;
    plan.power_irq = 0;
    build(&plan);
    assert_false(has_bytes("LNRO0005", 9) || has_bytes("ACPI0013", 9) || has_bytes("COM1", 4) || has_bytes("RTC_", 4) ||
                 has_bytes("QEMU0001", 9));
}

static void a_full_plan_fits_and_too_little_room_is_told(void **state)
{
    (void)state;
    struct machine_plan plan = plan_rig_x86(MACHINE_PROCESSORS_MAX);
    plan_rig_virtio_mmio(&plan, 0xf0000000, 24, MACHINE_VIRTIO_MMIO_MAX);
    build(&plan);
    size_t whole = used;
    for (size_t size = 0; size < whole; size++) {
        tables[size] = 0xa5;
        assert_int_equal(acpi_tables_build(&plan, ADDRESS, tables, size), -ENOSPC);
        assert_int_equal(tables[size], 0xa5);
    }
    assert_int_equal(acpi_tables_build(&plan, ADDRESS, tables, whole), whole);
}

/* Runs @command in @folder; its output, where it says something that is not expected, is shown. */
static void runs_clean(const char *folder, const char *arguments)
{
    char command[256], said[8192];
    snprintf(command, sizeof(command), "cd %s && iasl %s 2>&1", folder, arguments);
    FILE *iasl = popen(command, "r");
    assert_non_null(iasl);
    size_t length = fread(said, 1, sizeof(said) - 1, iasl);
    said[length] = '\0';
    if (pclose(iasl) != 0 || strstr(said, "Error ") || strstr(said, "Warning ") || strstr(said, "ACPI Error"))
        fail_msg("iasl %s:\n%s", arguments, said);
}

static void write_table(const char *folder, const char *name, const uint8_t *table)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s.aml", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(table, 1, get_le32(table + 4), file), get_le32(table + 4));
    assert_int_equal(fclose(file), 0);
}

static void iasl_takes_apart_and_compiles(const struct machine_plan *plan)
{
    static const char *const names[] = {"FACP", "APIC", "MCFG"};
    char folder[] = "/tmp/backplane-acpi-XXXXXX", arguments[64];
    assert_non_null(mkdtemp(folder));
    build(plan);
    write_table(folder, "DSDT", table_at(get_le64(find("FACP") + 140)));
    runs_clean(folder, "-d DSDT.aml");
    runs_clean(folder, "-p again DSDT.dsl");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!find(names[i]))
            continue;
        write_table(folder, names[i], find(names[i]));
        snprintf(arguments, sizeof(arguments), "-d %s.aml", names[i]);
        runs_clean(folder, arguments);
        snprintf(arguments, sizeof(arguments), "-p again %s.dsl", names[i]);
        runs_clean(folder, arguments);
    }
    char command[64];
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void iasl_reads_and_compiles_them_without_a_warning(void **state)
{
    (void)state;
    if (system("command -v iasl >/dev/null 2>&1") != 0) {
        print_message("skipped: iasl is not installed (package acpica-tools)\n");
        skip();
    }
    struct machine_plan plan = plan_rig_x86(64);
    iasl_takes_apart_and_compiles(&plan);
    plan.pci.ecam.size = 0;
    plan.power_irq = 0;
    iasl_takes_apart_and_compiles(&plan);
}

/* What acpiexec, ACPICA's interpreter, says that the method returns. */
static void osc_returns(const char *folder, const char *arguments, const char *expected)
{
    char command[256], said[8192];
    snprintf(command, sizeof(command), "cd %s && acpiexec -b 'evaluate \\_SB.PCI0._OSC %s' DSDT.aml 2>&1", folder,
             arguments);
    FILE *acpiexec = popen(command, "r");
    assert_non_null(acpiexec);
    size_t length = fread(said, 1, sizeof(said) - 1, acpiexec);
    said[length] = '\0';
    pclose(acpiexec);
    if (strstr(said, expected) == NULL)
        fail_msg("'%s' is not in:\n%s", expected, said);
}

static void osc_grants_hot_plug_and_masks_what_is_not_there(void **state)
{
    (void)state;
    if (system("command -v acpiexec >/dev/null 2>&1") != 0) {
        print_message("skipped: acpiexec is not installed (package acpica-tools)\n");
        skip();
    }
#define OSC_UUID "(5B 4D DB 33 5B 1F 1C 40 96 57 74 41 C0 3D D7 66) "
    char folder[] = "/tmp/backplane-acpi-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    const struct machine_plan plan = plan_rig_x86(4);
    build(&plan);
    write_table(folder, "DSDT", table_at(get_le64(find("FACP") + 140)));
    osc_returns(folder, OSC_UUID "1 3 (00 00 00 00 1F 00 00 00 1D 00 00 00)", "00 00 00 00 1F 00 00 00 1D 00 00 00");
    osc_returns(folder, OSC_UUID "1 3 (01 00 00 00 1F 00 00 00 FF 01 00 00)", "11 00 00 00 1F 00 00 00 1D 00 00 00");
    osc_returns(folder, OSC_UUID "2 3 (00 00 00 00 1F 00 00 00 01 00 00 00)", "08 00 00 00 1F 00 00 00 01 00 00 00");
    osc_returns(folder, "(00 4D DB 33 5B 1F 1C 40 96 57 74 41 C0 3D D7 66) 1 3 (00 00 00 00 1F 00 00 00 1F 00 00 00)",
                "04 00 00 00 1F 00 00 00 1F 00 00 00");
    snprintf(path, sizeof(path), "%s/DSDT.aml", folder);
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_root_is_found_and_every_checksum_holds),
        cmocka_unit_test(hardware_is_reduced_and_power_goes_by_registers),
        cmocka_unit_test(processors_have_entries_of_the_kind_that_holds_their_number),
        cmocka_unit_test(ecam_is_told_where_there_is_pci),
        cmocka_unit_test(devices_are_there_when_the_plan_has_them),
        cmocka_unit_test(a_full_plan_fits_and_too_little_room_is_told),
        cmocka_unit_test(osc_grants_hot_plug_and_masks_what_is_not_there),
        cmocka_unit_test(iasl_reads_and_compiles_them_without_a_warning),
    };
    return cmocka_run_group_tests_name("acpi_tables", tests, NULL, NULL);
}
