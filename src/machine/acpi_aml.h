/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Writes AML (ACPI 6.5, chapter 20) into a caller's buffer, in the order of the source text: what encloses something is
 * opened before it and closed after. A buffer that is too small is told once, at the end; nothing is written past it.
 */
#ifndef MACHINE_ACPI_AML_H
#define MACHINE_ACPI_AML_H

#include "base/base.h"

struct aml {
    uint8_t *bytes; /* borrowed */
    size_t size, used;
    bool overflown;
};

/* Where a package's length is to be filled in. */
struct aml_mark {
    size_t at;
};

void aml_byte(struct aml *aml, uint8_t byte);
void aml_bytes(struct aml *aml, const void *bytes, size_t count);

/* A name of 4 characters or less, "\\_SB_"; or a root name with a backslash before it. */
void aml_name_string(struct aml *aml, const char *name);

struct aml_mark aml_scope(struct aml *aml, const char *name);
struct aml_mark aml_device(struct aml *aml, const char *name);
/* With AML_SERIALIZED one call at a time: it makes names of its own. */
#define AML_SERIALIZED 8u
struct aml_mark aml_method(struct aml *aml, const char *name, unsigned arguments_and_flags);
/* Package of @count elements, which follow. */
struct aml_mark aml_package(struct aml *aml, unsigned count);
void aml_end(struct aml *aml, struct aml_mark mark);

/* Name (@name, …): the object follows. */
void aml_name(struct aml *aml, const char *name);
void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text);
/* EISAID ("PNP0A08"), 7 characters. */
void aml_eisa_id(struct aml *aml, const char *id);
/* Return (Arg@argument). */
void aml_return_argument(struct aml *aml, unsigned argument);
/* If (…) { … } Else { … }: the predicate follows aml_if. */
struct aml_mark aml_if(struct aml *aml);
struct aml_mark aml_else(struct aml *aml);
/* Operations, each followed by its operands; AND and OR by where the result goes, too. */
enum aml_operation {
    AML_OPERATION_STORE = 0x70,
    AML_OPERATION_AND = 0x7b,
    AML_OPERATION_OR = 0x7d,
    AML_OPERATION_NOT = 0x92,
    AML_OPERATION_EQUAL = 0x93,
};
void aml_operation(struct aml *aml, enum aml_operation operation);
void aml_argument(struct aml *aml, unsigned argument);
void aml_local(struct aml *aml, unsigned local);
/* Buffer () { … } of less than 60 bytes: an UUID. */
void aml_buffer(struct aml *aml, const uint8_t *bytes, uint8_t count);
/* CreateDWordField (Arg@argument, @offset, @name). */
void aml_dword_field(struct aml *aml, unsigned argument, uint8_t offset, const char *name);
/* Notify (@name, @value). */
void aml_notify(struct aml *aml, const char *name, uint8_t value);

/*
 * OperationRegion (@name, SystemMemory, @base, @bytes), and one field of 8 bits at @offset of it, called @field.
 */
void aml_memory_field(struct aml *aml, const char *name, uint64_t base, uint8_t bytes, uint8_t offset,
                      const char *field);
/* Store (@value, @name). */
void aml_store(struct aml *aml, uint8_t value, const char *name);

/* ResourceTemplate () { … }: 6.4. */
struct aml_resources {
    struct aml_mark buffer;
    size_t length_at, from;
};
struct aml_resources aml_resources(struct aml *aml);
void aml_resources_end(struct aml *aml, struct aml_resources resources);
void aml_resource_ports(struct aml *aml, uint16_t base, uint8_t count);
void aml_resource_memory_32(struct aml *aml, uint32_t base, uint32_t size);
/* Extended interrupt; consumer, active high, exclusive. */
void aml_resource_interrupt(struct aml *aml, uint32_t irq, bool edge);
/* What a bridge lets through; of buses not more than 256. */
enum aml_space { AML_MEMORY = 0, AML_PORTS = 1, AML_BUSES = 2 };
void aml_resource_window(struct aml *aml, enum aml_space space, uint64_t base, uint64_t size);

#endif
