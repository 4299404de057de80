/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The machine under the smoke test: a serial port, a way to end, and nothing else. */
#ifndef TESTS_SMOKE_MACHINE_H
#define TESTS_SMOKE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* Every exception is reported and ends the image as failed. Call it first. */
void machine_init(void);

void print(const char *text);
void print_number(uint64_t number);

/* End QEMU with the status that isa-debug-exit makes of it: 33 when all went well, else 35. */
_Noreturn void machine_exit(bool good);

#endif
