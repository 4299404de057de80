/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* backplane probe: docs/man/backplane-probe.1 is the reference. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "platform/linux/host_probe.h"
#include "platform/linux/short_text.h"
#include "programs/command.h"
#include "programs/daemon.h"
#include "programs/probe_kvm.h"

static const char *const checks[] = {"kvm", NULL};

/* {"state": "present"}, or what stands in the way. */
static json_t *offer(int error)
{
    if (error == 0)
        return json_pack("{s:s}", "state", "present");
    if (error == -ENOENT || error == -ENOSYS || error == -ENODEV || error == -ENXIO)
        return json_pack("{s:s}", "state", PROBE_ABSENT);
    return json_pack("{s:s, s:s}", "state", PROBE_NO_PERMISSION, "reason", strerror(-error));
}

static json_t *probe_huge_pages(void)
{
    struct host_huge_pages pages[HOST_HUGE_PAGES_MAX];
    int count = host_probe_huge_pages("", pages);
    json_t *answer = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(answer,
                              json_pack("{s:I, s:I, s:I}", "page_bytes", (json_int_t)pages[i].page_bytes, "total",
                                        (json_int_t)pages[i].total, "free", (json_int_t)pages[i].free));
    return answer;
}

static json_t *probe_xen(void)
{
    char version[64];
    switch (host_probe_xen("", version, sizeof(version))) {
    case HOST_XEN_GUEST:
        return json_pack("{s:s, s:s, s:s}", "state", "present", "role", "guest", "version", version);
    case HOST_XEN_CONTROL:
        return json_pack("{s:s, s:s, s:s}", "state", "present", "role", "control", "version", version);
    default:
        return offer(-ENOENT);
    }
}

/* Everything, or NULL: no memory. */
static json_t *probe_all(const char *kvm_path)
{
    json_t *kvm = probe_kvm(kvm_path);
    int is_virtual = host_probe_virtual("");
    if (kvm && is_virtual >= 0)
        json_object_set_new(kvm, "nested", json_boolean(is_virtual));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "kvm", kvm, "vhost_net",
                     offer(host_probe_file("", "/dev/vhost-net")), "vhost_vsock",
                     offer(host_probe_file("", "/dev/vhost-vsock")), "io_uring", offer(host_probe_io_uring()), "memfd",
                     offer(host_probe_memfd()), "huge_pages", probe_huge_pages(), "xen", probe_xen());
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

static void print_kvm(json_t *kvm)
{
    const char *reason = text_of(kvm, "reason");
    const json_t *nested = json_object_get(kvm, "nested");
    bool is_there = json_object_get(kvm, "capabilities") != NULL;
    printf("%-13s%s%s%s%s\n", "KVM", text_of(kvm, "state"), is_there && json_is_true(nested) ? ", nested" : "",
           *reason ? ": " : "", reason);
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(kvm, "capabilities"), name, value)
    {
        if (json_integer_value(value) != 0)
            printf("  %-28s%lld\n", name, (long long)json_integer_value(value));
        else
            printf("  %-28sno\n", name);
    }
}

static void print_offer(const json_t *answer, const char *name, const char *shown, const char *without)
{
    const json_t *one = json_object_get(answer, name);
    const char *state = text_of(one, "state"), *reason = text_of(one, "reason");
    bool is_present = strcmp(state, "present") == 0;
    printf("%-13s%s%s%s%s%s\n", shown, state, *reason ? ": " : "", reason, is_present ? "" : "; ",
           is_present ? "" : without);
}

static void print_huge_pages(const json_t *pages)
{
    if (json_array_size(pages) == 0)
        printf("%-13s%s\n", "huge pages", PROBE_ABSENT);
    for (size_t i = 0; i < json_array_size(pages); i++) {
        const json_t *one = json_array_get(pages, i);
        printf("%-13s%lld KiB each: %lld set aside, %lld free\n", i == 0 ? "huge pages" : "",
               (long long)json_integer_value(json_object_get(one, "page_bytes")) >> 10,
               (long long)json_integer_value(json_object_get(one, "total")),
               (long long)json_integer_value(json_object_get(one, "free")));
    }
}

static void print_xen(const json_t *xen)
{
    const char *role = text_of(xen, "role");
    if (*role)
        printf("%-13s%s, this is a %s domain\n", "Xen", text_of(xen, "version"), role);
    else
        printf("%-13s%s\n", "Xen", text_of(xen, "state"));
}

static void print_all(const json_t *answer)
{
    print_kvm(json_object_get(answer, "kvm"));
    print_offer(answer, "vhost_net", "vhost-net", "network devices are served by processes");
    print_offer(answer, "vhost_vsock", "vhost-vsock", "no vsock by the kernel: is its module loaded?");
    print_offer(answer, "io_uring", "io_uring", "disks are served by threads");
    print_offer(answer, "memfd", "memfd", "guest memory cannot be shared");
    print_huge_pages(json_object_get(answer, "huge_pages"));
    print_xen(json_object_get(answer, "xen"));
}

/* One line, and the answer as exit status. */
static int check_kvm(const char *path)
{
    json_t *kvm = probe_kvm(path);
    if (!kvm)
        return daemon_complain(EXIT_FAILED, "probe", "out of memory");
    const char *state = text_of(kvm, "state"), *reason = text_of(kvm, "reason");
    bool is_whole = strcmp(state, PROBE_WHOLE) == 0;
    if (json_object_get(kvm, "capabilities")) /* it could be opened */
        printf("%s is %s%s%s\n", SHORTENED(path), state, *reason ? ": " : "", reason);
    else
        printf("%s\n", reason);
    json_decref(kvm);
    return is_whole ? EXIT_DONE : EXIT_FAILED;
}

int command_probe(int count, char **arguments)
{
    char error[OPTIONS_ERROR_BYTES];
    const char *kvm_path = "/dev/kvm";
    bool as_json = false, help = false;
    uint64_t check = 0;
    struct option table[] = {
        option_choice("check", &check, checks, "WHAT", "kvm: say in one line whether it is whole; exit 0 only if so"),
        option_text("kvm-path", &kvm_path, "PATH", "KVM there instead of at /dev/kvm"),
        option_flag("json", &as_json, "print it as JSON"),
        option_flag("help", &help, "print this text and exit"),
    };
    if (options_ask(arguments, count, "help")) {
        fputs("usage: backplane probe [options]\n\n"
              "Say what this host offers to machines: KVM, vhost, memory, Xen.\n\n",
              stdout);
        options_print(table, ARRAY_SIZE(table));
        return EXIT_DONE;
    }
    int words = options_parse(table, ARRAY_SIZE(table), arguments, count, NULL, 0, error, sizeof(error));
    if (words < 0)
        return daemon_complain(EXIT_WRONG_USE, "probe", "%s", error);
    if (table[0].given) /* there is one choice */
        return check_kvm(kvm_path);

    json_t *answer = probe_all(kvm_path);
    if (!answer)
        return daemon_complain(EXIT_FAILED, "probe", "out of memory");
    if (as_json) {
        json_dumpf(answer, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_all(answer);
    }
    json_decref(answer);
    return EXIT_DONE;
}
