/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What stands in for a C library and an operating system: the four functions that the pure archives ask for, the
 * assertion handler, the first serial port, and exceptions that end in a report.
 */
#include "machine.h"

#include <assert.h>

#include "base/base.h"

#define SERIAL_DATA 0x3f8
#define SERIAL_LINE_STATUS 0x3fd
#define SERIAL_CAN_SEND 0x20
#define DEBUG_EXIT_PORT 0xf4
#define DEBUG_EXIT_GOOD 0x10 /* QEMU's own exit status is twice this and one */
#define DEBUG_EXIT_BAD 0x11

#define TRAPS 32
#define TRAP_STUB_BYTES 16
#define SEGMENT_CODE 0x08
#define GATE_PRESENT_INTERRUPT 0x8e00

/* An entry of the interrupt descriptor table (Intel SDM, volume 3, 6.14.1). */
struct gate {
    uint16_t address_0;
    uint16_t segment;
    uint16_t type;
    uint16_t address_16;
    uint32_t address_32;
    uint32_t reserved;
};
static_assert(sizeof(struct gate) == 16, "Intel SDM, volume 3, 6.14.1");

extern const uint8_t trap_stubs[];
_Noreturn void smoke_trap(uint64_t vector);

static struct gate gates[TRAPS];

static void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "d"(port));
}

static uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "d"(port));
    return value;
}

void print(const char *text)
{
    for (; *text != '\0'; text++) {
        while ((in8(SERIAL_LINE_STATUS) & SERIAL_CAN_SEND) == 0)
            ;
        out8(SERIAL_DATA, (uint8_t)*text);
    }
}

void print_number(uint64_t number)
{
    char digits[21];
    size_t at = sizeof(digits) - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    print(&digits[at]);
}

_Noreturn void machine_exit(bool good)
{
    out8(DEBUG_EXIT_PORT, good ? DEBUG_EXIT_GOOD : DEBUG_EXIT_BAD);
    for (;;)
        __asm__ volatile("hlt");
}

void machine_init(void)
{
    for (unsigned i = 0; i < TRAPS; i++) {
        uint64_t address = (uint64_t)(uintptr_t)&trap_stubs[i * TRAP_STUB_BYTES];
        gates[i] = (struct gate){
            .address_0 = (uint16_t)address,
            .segment = SEGMENT_CODE,
            .type = GATE_PRESENT_INTERRUPT,
            .address_16 = (uint16_t)(address >> 16),
            .address_32 = (uint32_t)(address >> 32),
        };
    }
    uint8_t pointer[10]; /* limit, address */
    put_le16(pointer, sizeof(gates) - 1);
    put_le64(pointer + 2, (uint64_t)(uintptr_t)gates);
    __asm__ volatile("lidt (%0)" : : "r"(pointer) : "memory");
}

_Noreturn void smoke_trap(uint64_t vector)
{
    print("smoke: FAIL exception ");
    print_number(vector);
    print("\n");
    machine_exit(false);
}

_Noreturn void backplane_assert_failed(const char *condition, const char *file, unsigned line)
{
    print("smoke: FAIL assertion ");
    print(condition);
    print(" at ");
    print(file);
    print(":");
    print_number(line);
    print("\n");
    machine_exit(false);
}

/* In assembly, or the compiler would make calls to these very functions of their loops. */
void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    void *at = to;
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(byte) : "memory");
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    if ((uintptr_t)to - (uintptr_t)from >= size)
        return memcpy(to, from, size);
    uint8_t *last = (uint8_t *)to + size - 1;
    const uint8_t *from_last = (const uint8_t *)from + size - 1;
    __asm__ volatile("std; rep movsb; cld" : "+D"(last), "+S"(from_last), "+c"(size) : : "memory", "cc");
    return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a, *y = b;
    for (size_t i = 0; i < size; i++) {
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    }
    return 0;
}
