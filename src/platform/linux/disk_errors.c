/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/disk_errors.h"

#include <errno.h>
#include <stdio.h>

void disk_errors_init(struct disk_errors *errors)
{
    *errors = (struct disk_errors){.total = 0};
    pthread_mutex_init(&errors->mutex, NULL);
}

void disk_errors_done(struct disk_errors *errors)
{
    pthread_mutex_destroy(&errors->mutex);
}

void disk_errors_add(struct disk_errors *errors, const struct disk_error *error)
{
    pthread_mutex_lock(&errors->mutex);
    errors->last = *error;
    if (error->error != -EFAULT) {
        errors->total++;
        if (errors->tell != NULL && !errors->told) {
            errors->told = true;
            errors->tell(errors->context);
        }
    }
    pthread_mutex_unlock(&errors->mutex);
}

void disk_errors_watch(struct disk_errors *errors, void (*tell)(void *context), void *context)
{
    pthread_mutex_lock(&errors->mutex);
    errors->tell = tell;
    errors->context = context;
    errors->told = false;
    pthread_mutex_unlock(&errors->mutex);
}

int disk_errors_last(struct disk_errors *errors, uint64_t *ret_total, struct disk_error *ret_error)
{
    pthread_mutex_lock(&errors->mutex);
    int r = errors->last.error == 0 ? -ENOENT : 0;
    if (r == 0) {
        *ret_total = errors->total;
        *ret_error = errors->last;
    }
    pthread_mutex_unlock(&errors->mutex);
    return r;
}

bool disk_errors_rest(struct disk_errors *errors, uint64_t seen)
{
    pthread_mutex_lock(&errors->mutex);
    bool rest = errors->total == seen;
    if (rest)
        errors->told = false;
    pthread_mutex_unlock(&errors->mutex);
    return rest;
}

void disk_error_print(const struct disk_error *error, char *text, size_t text_bytes)
{
    static const char *const names[] = {
        [BLK_OP_READ] = "read",
        [BLK_OP_WRITE] = "write",
        [BLK_OP_FLUSH] = "flush",
        [BLK_OP_DISCARD] = "discard",
        [BLK_OP_WRITE_ZEROES] = "write of zeroes",
    };
    if (error->op == BLK_OP_FLUSH)
        snprintf(text, text_bytes, "flush: %s", strerror(-error->error));
    else
        snprintf(text, text_bytes, "%s at %llu: %s", names[error->op], (unsigned long long)error->offset,
                 strerror(-error->error));
}
