/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "platform/linux/host_probe.h"

/* A host of files in a folder of its own. */
struct fake_host {
    char root[64];
};

static void host_make(struct fake_host *host)
{
    snprintf(host->root, sizeof(host->root), "/tmp/host-probe-XXXXXX");
    assert_non_null(mkdtemp(host->root));
}

static void host_remove(const struct fake_host *host)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", host->root);
    assert_int_equal(system(command), 0);
}

/* Write @text to @path and make its folders. */
static void host_file(const struct fake_host *host, const char *path, const char *text)
{
    char whole[PATH_MAX];
    int length = snprintf(whole, sizeof(whole), "%s%s", host->root, path);
    assert_true(length > 0 && (size_t)length < sizeof(whole));
    for (char *at = strchr(whole + strlen(host->root) + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        assert_true(mkdir(whole, 0700) == 0 || errno == EEXIST);
        *at = '/';
    }
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void a_host_with_nothing_has_nothing(void **state)
{
    (void)state;
    struct fake_host host;
    struct host_huge_pages pages[HOST_HUGE_PAGES_MAX];
    char version[32] = "untouched";
    host_make(&host);
    assert_int_equal(host_probe_file(host.root, "/dev/vhost-net"), -ENOENT);
    assert_int_equal(host_probe_huge_pages(host.root, pages), 0);
    assert_int_equal(host_probe_xen(host.root, version, sizeof(version)), HOST_XEN_ABSENT);
    assert_string_equal(version, "untouched");
    assert_int_equal(host_probe_virtual(host.root), -ENOENT);
    host_remove(&host);
}

static void huge_pages_come_by_size(void **state)
{
    (void)state;
    struct fake_host host;
    struct host_huge_pages pages[HOST_HUGE_PAGES_MAX];
    host_make(&host);
    host_file(&host, "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n");
    host_file(&host, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n");
    host_file(&host, "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "500\n");
    host_file(&host, "/sys/kernel/mm/hugepages/other/nr_hugepages", "7\n");
    assert_int_equal(host_probe_huge_pages(host.root, pages), 2);
    assert_int_equal(pages[0].page_bytes, 2u << 20);
    assert_int_equal(pages[0].total, 512);
    assert_int_equal(pages[0].free, 500);
    assert_int_equal(pages[1].page_bytes, 1u << 30);
    assert_int_equal(pages[1].total, 0);
    host_remove(&host);
}

static void xen_says_its_version_and_who_we_are(void **state)
{
    (void)state;
    struct fake_host host;
    char version[32];
    host_make(&host);
    host_file(&host, "/sys/hypervisor/type", "xen\n");
    host_file(&host, "/sys/hypervisor/version/major", "4\n");
    host_file(&host, "/sys/hypervisor/version/minor", "17\n");
    host_file(&host, "/sys/hypervisor/version/extra", ".1\n");
    assert_int_equal(host_probe_xen(host.root, version, sizeof(version)), HOST_XEN_GUEST);
    assert_string_equal(version, "4.17.1");
    host_file(&host, "/proc/xen/capabilities", "control_d\n");
    assert_int_equal(host_probe_xen(host.root, version, sizeof(version)), HOST_XEN_CONTROL);
    host_remove(&host);
}

static void a_virtual_machine_knows_that_it_is_one(void **state)
{
    (void)state;
    struct fake_host host;
    host_make(&host);
    host_file(&host, "/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor lahf_lm\nbugs\t\t: none\n");
    assert_int_equal(host_probe_virtual(host.root), 1);
    host_file(&host, "/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu svm\nbugs\t\t: some hypervisor thing\n");
    assert_int_equal(host_probe_virtual(host.root), 0);
    host_file(&host, "/proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd\n");
    assert_int_equal(host_probe_virtual(host.root), -ENODATA);
    host_remove(&host);
}

static void memory_can_be_had_as_a_file(void **state)
{
    (void)state;
    assert_int_equal(host_probe_memfd(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_with_nothing_has_nothing),     cmocka_unit_test(huge_pages_come_by_size),
        cmocka_unit_test(xen_says_its_version_and_who_we_are), cmocka_unit_test(a_virtual_machine_knows_that_it_is_one),
        cmocka_unit_test(memory_can_be_had_as_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
