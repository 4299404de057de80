/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation. The guest's few instructions take microseconds. One that hangs is ended by a timer whose signal
 * this thread blocks and KVM does not (kvm_vcpu_set_signals): it ends the guest, no handler runs, and it is taken from
 * where it waits. A machine of its own each time: nothing is left.
 */
#include "platform/kvm/kvm_whole.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "platform/kvm/kvm_whole_guest.h"

#define GUEST_TIMEOUT_S 10

struct trial {
    struct kvm_vm vm;
    struct kvm_vcpu vcpu;
    uint8_t *memory;
    char *reason;
    size_t reason_bytes;
};

__attribute__((format(printf, 2, 3))) static int no(const struct trial *trial, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(trial->reason, trial->reason_bytes, format, arguments);
    va_end(arguments);
    return 0;
}

static int trial_prepare(struct trial *trial, const struct kvm_host *host)
{
    void *memory = mmap(NULL, KVM_WHOLE_MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return no(trial, "no memory for its guest: %s", strerror(errno));
    trial->memory = memory;
    int r = kvm_vm_open(&trial->vm, host, 0);
    if (r < 0)
        return no(trial, "it makes no virtual machine: %s", strerror(-r));
    const struct kvm_slot slot = {.bytes = KVM_WHOLE_MEMORY_BYTES, .host = memory};
    r = kvm_vm_slot_set(&trial->vm, &slot);
    if (r < 0)
        return no(trial, "it takes no guest memory: %s", strerror(-r));
    r = kvm_vcpu_open(&trial->vcpu, &trial->vm, 0);
    if (r < 0)
        return no(trial, "it makes no virtual processor: %s", strerror(-r));
    r = kvm_whole_guest_prepare(&trial->vcpu, trial->memory);
    if (r < 0)
        return no(trial, "it refuses a processor as Linux begins with: %s", strerror(-r));
    return 1;
}

/* Run until the guest has something to say. @alarm: the only signal in it, pending once the time is over. */
static int trial_run(struct trial *trial, const sigset_t *alarm)
{
    struct kvm_exit exit;
    int r;
    while ((r = kvm_vcpu_run(&trial->vcpu, &exit)) == 0 && exit.cause == KVM_CAUSE_INTERRUPTED) {
        const struct timespec now = {0};
        if (sigtimedwait(alarm, NULL, &now) > 0)
            return no(trial, "its guest hangs");
    }
    if (r < 0)
        return no(trial, "its guest does not run: %s", strerror(-r));
    const char *wrong = kvm_whole_guest_judge(trial->memory, &exit);
    return wrong ? no(trial, "%s", wrong) : 1;
}

static int trial_run_for_a_while(struct trial *trial)
{
    sigset_t alarm, before;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGRTMAX);
    int r = -pthread_sigmask(SIG_BLOCK, &alarm, &before);
    if (r < 0)
        return no(trial, "no signal to end its guest by: %s", strerror(-r));
    sigset_t while_running = before;
    sigdelset(&while_running, SIGRTMAX);
    r = kvm_vcpu_set_signals(&trial->vcpu, &while_running);

    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMAX};
    event._sigev_un._tid = gettid(); /* sigev_notify_thread_id, a name that older C libraries lack */
    const struct itimerspec after = {.it_value = {.tv_sec = GUEST_TIMEOUT_S}};
    if (r == 0 && timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
        r = -errno;
    int answer = 0;
    if (r == 0) {
        timer_settime(timer, 0, &after, NULL);
        answer = trial_run(trial, &alarm);
        timer_delete(timer);
        const struct timespec now = {0};
        sigtimedwait(&alarm, NULL, &now); /* it may have come at the last moment */
    } else {
        no(trial, "no timer to end its guest by: %s", strerror(-r));
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return answer;
}

int kvm_whole_try(const struct kvm_host *host, char *reason, size_t reason_bytes)
{
    struct trial trial = {.reason = reason, .reason_bytes = reason_bytes};
    const struct kvm_capability *missing = kvm_host_missing(host);
    if (missing)
        return no(&trial, "it lacks KVM_CAP_%s: %s", missing->name, missing->purpose);
    int answer = trial_prepare(&trial, host);
    if (answer == 1)
        answer = trial_run_for_a_while(&trial);
    kvm_vcpu_close(&trial.vcpu);
    kvm_vm_close(&trial.vm);
    if (trial.memory)
        munmap(trial.memory, KVM_WHOLE_MEMORY_BYTES);
    return answer;
}

void kvm_whole_open_reason(const char *path, int error, char *reason, size_t reason_bytes)
{
    switch (error) {
    case -ENOENT:
    case -ENXIO:
    case -ENODEV:
        snprintf(
            reason, reason_bytes,
            "there is no %s: hardware virtualization is off or not given to this machine, or the module kvm is not "
            "loaded",
            path);
        break;
    case -EACCES:
    case -EPERM:
        snprintf(reason, reason_bytes, "no permission to open %s: join the group that owns it, often kvm", path);
        break;
    case -EPROTO:
    case -ENOTTY:
        snprintf(reason, reason_bytes, "%s speaks another version of KVM's interface, or none", path);
        break;
    default:
        snprintf(reason, reason_bytes, "%s cannot be opened: %s", path, strerror(-error));
        break;
    }
}

int kvm_whole_try_path(const char *path, char *reason, size_t reason_bytes)
{
    struct kvm_host host;
    int r = kvm_host_open(&host, NULL, path);
    if (r < 0) {
        kvm_whole_open_reason(path, r, reason, reason_bytes);
        return 0;
    }
    r = kvm_whole_try(&host, reason, reason_bytes);
    kvm_host_close(&host);
    return r;
}
