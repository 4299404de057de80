/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "machine/acpi_aml.h"

/* ACPI 6.5, 20.3: encodings. */
enum {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_STRING = 0x0d,
    AML_QWORD = 0x0e,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_METHOD = 0x14,
    AML_EXTENDED = 0x5b,
    AML_LOCAL_0 = 0x60,
    AML_ARGUMENT_0 = 0x68,
    AML_STORE = 0x70,
    AML_NOTIFY = 0x86,
    AML_DWORD_FIELD = 0x8a,
    AML_IF = 0xa0,
    AML_ELSE = 0xa1,
    AML_RETURN = 0xa4,
    AML_EXTENDED_REGION = 0x80,
    AML_EXTENDED_FIELD = 0x81,
    AML_EXTENDED_DEVICE = 0x82,
};

/* A length in three bytes: 4 bits, and two bytes more (20.2.4). Room for a DSDT of a megabyte. */
#define LENGTH_BYTES 3
#define LENGTH_MORE (2u << 6)

void aml_byte(struct aml *aml, uint8_t byte)
{
    if (aml->used == aml->size) {
        aml->overflown = true;
        return;
    }
    aml->bytes[aml->used++] = byte;
}

void aml_bytes(struct aml *aml, const void *bytes, size_t count)
{
    const uint8_t *each = bytes;
    for (size_t i = 0; i < count; i++)
        aml_byte(aml, each[i]);
}

static void aml_number(struct aml *aml, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        aml_byte(aml, (uint8_t)(value >> (8 * i)));
}

void aml_name_string(struct aml *aml, const char *name)
{
    unsigned i = 0;
    if (*name == '\\') {
        aml_byte(aml, '\\');
        name++;
    }
    for (; i < 4 && name[i] != '\0'; i++)
        aml_byte(aml, (uint8_t)name[i]);
    for (; i < 4; i++)
        aml_byte(aml, '_');
}

static struct aml_mark aml_open(struct aml *aml)
{
    const uint8_t room[LENGTH_BYTES] = {0};
    struct aml_mark mark = {.at = aml->used};
    aml_bytes(aml, room, sizeof(room));
    return mark;
}

void aml_end(struct aml *aml, struct aml_mark mark)
{
    if (aml->overflown)
        return;
    size_t length = aml->used - mark.at; /* it counts itself */
    ASSERT(length < 1u << 20);
    aml->bytes[mark.at] = (uint8_t)(LENGTH_MORE | (length & 0xf));
    aml->bytes[mark.at + 1] = (uint8_t)(length >> 4);
    aml->bytes[mark.at + 2] = (uint8_t)(length >> 12);
}

struct aml_mark aml_scope(struct aml *aml, const char *name)
{
    aml_byte(aml, AML_SCOPE);
    struct aml_mark mark = aml_open(aml);
    aml_name_string(aml, name);
    return mark;
}

struct aml_mark aml_device(struct aml *aml, const char *name)
{
    aml_byte(aml, AML_EXTENDED);
    aml_byte(aml, AML_EXTENDED_DEVICE);
    struct aml_mark mark = aml_open(aml);
    aml_name_string(aml, name);
    return mark;
}

struct aml_mark aml_method(struct aml *aml, const char *name, unsigned arguments_and_flags)
{
    aml_byte(aml, AML_METHOD);
    struct aml_mark mark = aml_open(aml);
    aml_name_string(aml, name);
    aml_byte(aml, (uint8_t)arguments_and_flags);
    return mark;
}

struct aml_mark aml_package(struct aml *aml, unsigned count)
{
    ASSERT(count <= UINT8_MAX);
    aml_byte(aml, AML_PACKAGE);
    struct aml_mark mark = aml_open(aml);
    aml_byte(aml, (uint8_t)count);
    return mark;
}

void aml_name(struct aml *aml, const char *name)
{
    aml_byte(aml, AML_NAME);
    aml_name_string(aml, name);
}

void aml_integer(struct aml *aml, uint64_t value)
{
    if (value <= 1) {
        aml_byte(aml, value == 0 ? AML_ZERO : AML_ONE);
    } else if (value <= UINT8_MAX) {
        aml_byte(aml, AML_BYTE);
        aml_number(aml, value, 1);
    } else if (value <= UINT16_MAX) {
        aml_byte(aml, AML_WORD);
        aml_number(aml, value, 2);
    } else if (value <= UINT32_MAX) {
        aml_byte(aml, AML_DWORD);
        aml_number(aml, value, 4);
    } else {
        aml_byte(aml, AML_QWORD);
        aml_number(aml, value, 8);
    }
}

void aml_string(struct aml *aml, const char *text)
{
    aml_byte(aml, AML_STRING);
    for (; *text != '\0'; text++)
        aml_byte(aml, (uint8_t)*text);
    aml_byte(aml, 0);
}

static unsigned aml_hex_digit(char digit)
{
    return digit <= '9' ? (unsigned)(digit - '0') : (unsigned)(digit - 'A') + 10;
}

/* 19.3.4: three letters of 5 bits, four hex digits, most significant byte first. */
void aml_eisa_id(struct aml *aml, const char *id)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 3; i++)
        value = value << 5 | (uint32_t)(id[i] - '@');
    for (unsigned i = 3; i < 7; i++)
        value = value << 4 | aml_hex_digit(id[i]);
    aml_byte(aml, AML_DWORD);
    for (unsigned i = 4; i > 0; i--)
        aml_byte(aml, (uint8_t)(value >> (8 * (i - 1))));
}

void aml_return_argument(struct aml *aml, unsigned argument)
{
    aml_byte(aml, AML_RETURN);
    aml_byte(aml, (uint8_t)(AML_ARGUMENT_0 + argument));
}

struct aml_mark aml_if(struct aml *aml)
{
    aml_byte(aml, AML_IF);
    return aml_open(aml);
}

struct aml_mark aml_else(struct aml *aml)
{
    aml_byte(aml, AML_ELSE);
    return aml_open(aml);
}

void aml_operation(struct aml *aml, enum aml_operation operation)
{
    aml_byte(aml, (uint8_t)operation);
}

void aml_argument(struct aml *aml, unsigned argument)
{
    aml_byte(aml, (uint8_t)(AML_ARGUMENT_0 + argument));
}

void aml_local(struct aml *aml, unsigned local)
{
    aml_byte(aml, (uint8_t)(AML_LOCAL_0 + local));
}

void aml_buffer(struct aml *aml, const uint8_t *bytes, uint8_t count)
{
    aml_byte(aml, AML_BUFFER);
    struct aml_mark mark = aml_open(aml);
    aml_integer(aml, count);
    aml_bytes(aml, bytes, count);
    aml_end(aml, mark);
}

void aml_dword_field(struct aml *aml, unsigned argument, uint8_t offset, const char *name)
{
    aml_byte(aml, AML_DWORD_FIELD);
    aml_argument(aml, argument);
    aml_integer(aml, offset);
    aml_name_string(aml, name);
}

void aml_notify(struct aml *aml, const char *name, uint8_t value)
{
    aml_byte(aml, AML_NOTIFY);
    aml_name_string(aml, name);
    aml_integer(aml, value);
}

/* AccessType ByteAcc, Lock NoLock, UpdateRule Preserve. */
#define FIELD_FLAGS 0x01
#define REGION_MEMORY 0x00

/* The length of a field's element, in bits. */
static void aml_bits(struct aml *aml, unsigned bits)
{
    ASSERT(bits < 1u << 12);
    aml_byte(aml, (uint8_t)(1u << 6 | (bits & 0xf)));
    aml_byte(aml, (uint8_t)(bits >> 4));
}

void aml_memory_field(struct aml *aml, const char *name, uint64_t base, uint8_t bytes, uint8_t offset,
                      const char *field)
{
    aml_byte(aml, AML_EXTENDED);
    aml_byte(aml, AML_EXTENDED_REGION);
    aml_name_string(aml, name);
    aml_byte(aml, REGION_MEMORY);
    aml_integer(aml, base);
    aml_integer(aml, bytes);
    aml_byte(aml, AML_EXTENDED);
    aml_byte(aml, AML_EXTENDED_FIELD);
    struct aml_mark mark = aml_open(aml);
    aml_name_string(aml, name);
    aml_byte(aml, FIELD_FLAGS);
    if (offset > 0) {
        aml_byte(aml, 0); /* ReservedField */
        aml_bits(aml, offset * 8u);
    }
    aml_name_string(aml, field);
    aml_bits(aml, 8);
    aml_end(aml, mark);
}

void aml_store(struct aml *aml, uint8_t value, const char *name)
{
    aml_byte(aml, AML_STORE);
    aml_integer(aml, value);
    aml_name_string(aml, name);
}

/* ---- resources (6.4) */

#define END_TAG 0x79

struct aml_resources aml_resources(struct aml *aml)
{
    struct aml_resources resources;
    aml_byte(aml, AML_BUFFER);
    resources.buffer = aml_open(aml);
    aml_byte(aml, AML_WORD);
    resources.length_at = aml->used;
    aml_number(aml, 0, 2);
    resources.from = aml->used;
    return resources;
}

void aml_resources_end(struct aml *aml, struct aml_resources resources)
{
    aml_byte(aml, END_TAG);
    aml_byte(aml, 0); /* no checksum */
    if (!aml->overflown)
        put_le16(aml->bytes + resources.length_at, (uint16_t)(aml->used - resources.from));
    aml_end(aml, resources.buffer);
}

/* 6.4.2.5: decodes 16 bits. */
void aml_resource_ports(struct aml *aml, uint16_t base, uint8_t count)
{
    aml_byte(aml, 0x47);
    aml_byte(aml, 1);
    aml_number(aml, base, 2);
    aml_number(aml, base, 2);
    aml_byte(aml, 1);
    aml_byte(aml, count);
}

/* 6.4.3.4 */
void aml_resource_memory_32(struct aml *aml, uint32_t base, uint32_t size)
{
    aml_byte(aml, 0x86);
    aml_number(aml, 9, 2);
    aml_byte(aml, 1); /* writable */
    aml_number(aml, base, 4);
    aml_number(aml, size, 4);
}

/* 6.4.3.6: bit 0 consumer, bit 1 edge; high and exclusive are 0. */
void aml_resource_interrupt(struct aml *aml, uint32_t irq, bool edge)
{
    aml_byte(aml, 0x89);
    aml_number(aml, 6, 2);
    aml_byte(aml, (uint8_t)(1u | (edge ? 2u : 0)));
    aml_byte(aml, 1);
    aml_number(aml, irq, 4);
}

/*
 * 6.4.3.5.1: quad-word address space; fixed at both ends, produced. Memory: not cacheable, writable. Buses in words
 * (6.4.3.5.3), since ASL has no other form of them.
 */
void aml_resource_window(struct aml *aml, enum aml_space space, uint64_t base, uint64_t size)
{
    static const uint8_t specific[] = {[AML_MEMORY] = 0x01, [AML_PORTS] = 0x03, [AML_BUSES] = 0};
    unsigned bytes = space == AML_BUSES ? 2 : 8;
    aml_byte(aml, space == AML_BUSES ? 0x88 : 0x8a);
    aml_number(aml, 3 + 5 * bytes, 2);
    aml_byte(aml, (uint8_t)space);
    aml_byte(aml, 0x0c);
    aml_byte(aml, specific[space]);
    aml_number(aml, 0, bytes); /* granularity */
    aml_number(aml, base, bytes);
    aml_number(aml, base + size - 1, bytes);
    aml_number(aml, 0, bytes); /* translation */
    aml_number(aml, size, bytes);
}
