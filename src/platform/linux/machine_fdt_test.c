/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The tree is read back with libfdt, as firmware and kernels do; and by dtc, which knows the bindings of buses. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "plan_rig.h"
#include "platform/linux/machine_fdt.h"

static uint64_t tree[MACHINE_FDT_BYTES_MAX / 8];
static size_t used;
static const struct machine_fdt_options no_options = {.cmdline = NULL};

static void build(const struct machine_plan *plan, const struct machine_fdt_options *options)
{
    assert_int_equal(machine_fdt_build(plan, options, tree, sizeof(tree), &used), 0);
    assert_int_equal(fdt_check_full(tree, used), 0);
}

static int node(const char *path)
{
    int offset = fdt_path_offset(tree, path);
    if (offset < 0)
        fail_msg("%s: %s", path, fdt_strerror(offset));
    return offset;
}

static uint32_t cell_of(const char *path, const char *property, unsigned index)
{
    int length;
    const fdt32_t *cells = fdt_getprop(tree, node(path), property, &length);
    if (cells == NULL || (unsigned)length < (index + 1) * 4)
        fail_msg("%s has no cell %u of %s", path, index, property);
    return fdt32_to_cpu(cells[index]);
}

static uint64_t cells_of(const char *path, const char *property, unsigned index)
{
    return (uint64_t)cell_of(path, property, index) << 32 | cell_of(path, property, index + 1);
}

static const char *text_of(const char *path, const char *property)
{
    const char *text = fdt_getprop(tree, node(path), property, NULL);
    if (text == NULL)
        fail_msg("%s has no %s", path, property);
    return text;
}

static bool has(const char *path, const char *property)
{
    return fdt_getprop(tree, node(path), property, NULL) != NULL;
}

static void processors_have_their_affinity_and_start_by_psci(void **state)
{
    (void)state;
    const struct machine_plan plan = plan_rig_arm64(MACHINE_GIC_V3, 64);
    build(&plan, &no_options);
    assert_int_equal(cells_of("/cpus/cpu@0", "reg", 0), 0);
    assert_int_equal(cells_of("/cpus/cpu@30f", "reg", 0), 0x30f);
    assert_string_equal(text_of("/cpus/cpu@30f", "enable-method"), "psci");
    assert_string_equal(text_of("/psci", "method"), "hvc");
    assert_string_equal(text_of("/psci", "compatible"), "arm,psci-1.0");
}

static void memory_is_all_there_and_the_bounce_range_is_set_apart(void **state)
{
    (void)state;
    struct machine_plan plan = plan_rig_arm64(MACHINE_GIC_V3, 4);
    plan.ram[plan.ram_count++] = (struct machine_range){.base = UINT64_C(0x900000000), .size = UINT64_C(0x140000000)};
    build(&plan, &no_options);
    assert_int_equal(cells_of("/memory@40000000", "reg", 0), 0x40000000);
    assert_int_equal(cells_of("/memory@40000000", "reg", 2), 0x10000000);
    assert_int_equal(cells_of("/memory@900000000", "reg", 0), UINT64_C(0x900000000));
    assert_int_equal(cells_of("/memory@900000000", "reg", 2), UINT64_C(0x140000000));
    assert_string_equal(text_of("/reserved-memory/restricted-dma-pool@4f000000", "compatible"), "restricted-dma-pool");
    assert_int_equal(cells_of("/reserved-memory/restricted-dma-pool@4f000000", "reg", 2), 0x1000000);
}

static void devices_that_must_bounce_lead_to_the_bounce_range_and_others_do_not(void **state)
{
    (void)state;
    struct machine_plan plan = plan_rig_arm64(MACHINE_GIC_V3, 4);
    build(&plan, &no_options);
    uint32_t pool = cell_of("/reserved-memory/restricted-dma-pool@4f000000", "phandle", 0);
    assert_false(has("/virtio_mmio@a000000", "memory-region"));
    assert_int_equal(cell_of("/virtio_mmio@a001000", "memory-region", 0), pool);
    assert_false(has("/pcie@20000000", "memory-region"));
    assert_int_equal(cell_of("/pcie@20000000/device@3", "memory-region", 0), pool);
    assert_int_equal(cell_of("/pcie@20000000/device@3", "reg", 0), 3 << 11);
    assert_true(fdt_path_offset(tree, "/pcie@20000000/device@4") < 0);

    plan.pci.all_bounce = true;
    build(&plan, &no_options);
    assert_int_equal(cell_of("/pcie@20000000", "memory-region", 0), pool);

    plan.bounce.size = 0;
    build(&plan, &no_options);
    assert_true(fdt_path_offset(tree, "/reserved-memory") < 0);
    assert_false(has("/virtio_mmio@a001000", "memory-region"));
    assert_false(has("/pcie@20000000", "memory-region"));
}

static void version_3_of_the_gic_has_redistributors_and_an_its(void **state)
{
    (void)state;
    struct machine_plan plan = plan_rig_arm64(MACHINE_GIC_V3, 4);
    build(&plan, &no_options);
    const char *gic = "/interrupt-controller@8000000", *its = "/interrupt-controller@8000000/msi-controller@8080000";
    assert_string_equal(text_of(gic, "compatible"), "arm,gic-v3");
    assert_int_equal(cells_of(gic, "reg", 4), 0x080a0000);
    assert_int_equal(cells_of(gic, "reg", 6), 0x80000);
    assert_string_equal(text_of(its, "compatible"), "arm,gic-v3-its");
    assert_int_equal(cell_of("/", "interrupt-parent", 0), cell_of(gic, "phandle", 0));
    assert_int_equal(cell_of("/pcie@20000000", "msi-map", 1), cell_of(its, "phandle", 0));
    assert_int_equal(cell_of("/timer", "interrupts", 7), 27 - 16); /* the virtual one: private */
    assert_int_equal(cell_of("/timer", "interrupts", 6), 1);
    assert_int_equal(cell_of("/timer", "interrupts", 8), 4);

    plan.gic_its.size = 0;
    build(&plan, &no_options);
    assert_false(has("/pcie@20000000", "msi-map"));
}

static void version_2_of_the_gic_has_processor_interfaces_and_a_frame(void **state)
{
    (void)state;
    const struct machine_plan plan = plan_rig_arm64(MACHINE_GIC_V2, 4);
    build(&plan, &no_options);
    const char *gic = "/interrupt-controller@8000000", *frame = "/interrupt-controller@8000000/v2m@8020000";
    assert_string_equal(text_of(gic, "compatible"), "arm,cortex-a15-gic");
    assert_int_equal(cells_of(gic, "reg", 4), 0x08010000);
    assert_string_equal(text_of(frame, "compatible"), "arm,gic-v2m-frame");
    assert_int_equal(cell_of(frame, "arm,msi-base-spi", 0), 96);
    assert_int_equal(cell_of(frame, "arm,msi-num-spis", 0), 32);
    assert_int_equal(cell_of("/timer", "interrupts", 8), 0xf04); /* four processors have it */
}

static void chips_have_registers_interrupts_and_clocks(void **state)
{
    (void)state;
    const struct machine_plan plan = plan_rig_arm64(MACHINE_GIC_V3, 4);
    build(&plan, &no_options);
    assert_int_equal(cells_of("/serial@9000000", "reg", 0), 0x09000000);
    assert_int_equal(cell_of("/serial@9000000", "interrupts", 0), 0);
    assert_int_equal(cell_of("/serial@9000000", "interrupts", 1), 33 - 32);
    assert_int_equal(cell_of("/serial@9000000", "clocks", 1), cell_of("/apb-clock", "phandle", 0));
    assert_int_equal(cell_of("/rtc@9010000", "interrupts", 1), 34 - 32);
    assert_string_equal(text_of("/pvpanic@9020000", "compatible"), "qemu,pvpanic-mmio");
    assert_int_equal(cell_of("/virtio_mmio@a002000", "interrupts", 1), 50 - 32);
    assert_int_equal(cell_of("/virtio_mmio@a002000", "interrupts", 2), 1);
    assert_true(has("/virtio_mmio@a002000", "dma-coherent"));
}

static void pci_has_its_windows_and_its_wires_turn_with_the_device(void **state)
{
    (void)state;
    const struct machine_plan plan = plan_rig_arm64(MACHINE_GIC_V3, 4);
    build(&plan, &no_options);
    const char *pci = "/pcie@20000000";
    assert_int_equal(cell_of(pci, "bus-range", 1), 255);
    assert_int_equal(cell_of(pci, "ranges", 0), 0x01000000);
    assert_int_equal(cells_of(pci, "ranges", 3), 0x0f000000);
    assert_int_equal(cell_of(pci, "ranges", 7), 0x02000000);
    assert_int_equal(cells_of(pci, "ranges", 8), 0x10000000);
    assert_int_equal(cells_of(pci, "ranges", 10), 0x10000000);
    assert_int_equal(cell_of(pci, "ranges", 14), 0x03000000);
    assert_int_equal(cells_of(pci, "ranges", 19), UINT64_C(1) << 36);
    assert_int_equal(cell_of(pci, "interrupt-map-mask", 0), 0x1800);
    for (unsigned device = 0; device < 4; device++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            unsigned at = (device * 4 + pin) * 10;
            assert_int_equal(cell_of(pci, "interrupt-map", at), device << 11);
            assert_int_equal(cell_of(pci, "interrupt-map", at + 3), pin + 1);
            assert_int_equal(cell_of(pci, "interrupt-map", at + 8), plan.pci.wires[(device + pin) % 4] - 32);
            assert_int_equal(cell_of(pci, "interrupt-map", at + 9), 4);
        }
    }
}

static void the_kernel_is_told_its_command_line_initrd_and_seeds(void **state)
{
    (void)state;
    static const uint8_t random[40] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    const struct machine_plan plan = plan_rig_arm64(MACHINE_GIC_V3, 4);
    const struct machine_fdt_options options = {.cmdline = "console=ttyAMA0 \"quoted\"",
                                                .initrd = {.base = 0x44000000, .size = 12345},
                                                .random = random,
                                                .random_bytes = sizeof(random)};
    build(&plan, &options);
    assert_string_equal(text_of("/chosen", "bootargs"), options.cmdline);
    assert_true(node(text_of("/chosen", "stdout-path")) == node("/serial@9000000"));
    assert_int_equal(cells_of("/chosen", "linux,initrd-start", 0), 0x44000000);
    assert_int_equal(cells_of("/chosen", "linux,initrd-end", 0), 0x44000000 + 12345);
    assert_int_equal(cells_of("/chosen", "kaslr-seed", 0), UINT64_C(0x0102030405060708));
    assert_int_equal(cell_of("/chosen", "rng-seed", 0), 0x090a0000);

    build(&plan, &no_options);
    assert_false(has("/chosen", "bootargs"));
    assert_false(has("/chosen", "linux,initrd-start"));
    assert_false(has("/chosen", "kaslr-seed"));
}

static void a_full_plan_fits_and_too_little_room_is_told(void **state)
{
    (void)state;
    struct machine_plan plan = plan_rig_arm64(MACHINE_GIC_V3, MACHINE_PROCESSORS_MAX);
    plan_rig_virtio_mmio(&plan, 0x0a000000, 48, MACHINE_VIRTIO_MMIO_MAX);
    plan.pci.bounces = UINT32_MAX;
    char cmdline[2048];
    memset(cmdline, 'x', sizeof(cmdline) - 1);
    cmdline[sizeof(cmdline) - 1] = '\0';
    const struct machine_fdt_options options = {.cmdline = cmdline};
    build(&plan, &options);
    for (size_t size = 0; size < used; size += 97) {
        size_t untouched = 1;
        memset(tree, 0xa5, sizeof(tree));
        assert_int_equal(machine_fdt_build(&plan, &options, tree, size, &untouched), -ENOSPC);
        assert_int_equal(untouched, 1);
        for (size_t i = size; i < sizeof(tree); i++)
            assert_int_equal(((uint8_t *)tree)[i], 0xa5);
    }
}

static void dtc_finds_nothing_to_warn_of(const struct machine_plan *plan)
{
    char folder[] = "/tmp/backplane-fdt-XXXXXX", path[64], command[256], said[4096];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/dtb", folder);
    build(plan, &no_options);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(tree, 1, used, file), used);
    assert_int_equal(fclose(file), 0);
    snprintf(command, sizeof(command), "dtc -I dtb -O dts -o /dev/null %s 2>&1", path);
    FILE *dtc = popen(command, "r");
    assert_non_null(dtc);
    size_t length = fread(said, 1, sizeof(said) - 1, dtc);
    said[length] = '\0';
    assert_int_equal(pclose(dtc), 0);
    unlink(path);
    rmdir(folder);
    assert_string_equal(said, "");
}

static void dtc_reads_it_without_a_warning(void **state)
{
    (void)state;
    if (system("command -v dtc >/dev/null 2>&1") != 0) {
        print_message("skipped: dtc is not installed (package device-tree-compiler)\n");
        skip();
    }
    struct machine_plan plan = plan_rig_arm64(MACHINE_GIC_V3, 4);
    dtc_finds_nothing_to_warn_of(&plan);
    plan = plan_rig_arm64(MACHINE_GIC_V2, 4);
    dtc_finds_nothing_to_warn_of(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processors_have_their_affinity_and_start_by_psci),
        cmocka_unit_test(memory_is_all_there_and_the_bounce_range_is_set_apart),
        cmocka_unit_test(devices_that_must_bounce_lead_to_the_bounce_range_and_others_do_not),
        cmocka_unit_test(version_3_of_the_gic_has_redistributors_and_an_its),
        cmocka_unit_test(version_2_of_the_gic_has_processor_interfaces_and_a_frame),
        cmocka_unit_test(chips_have_registers_interrupts_and_clocks),
        cmocka_unit_test(pci_has_its_windows_and_its_wires_turn_with_the_device),
        cmocka_unit_test(the_kernel_is_told_its_command_line_initrd_and_seeds),
        cmocka_unit_test(a_full_plan_fits_and_too_little_room_is_told),
        cmocka_unit_test(dtc_reads_it_without_a_warning),
    };
    return cmocka_run_group_tests_name("machine_fdt", tests, NULL, NULL);
}
