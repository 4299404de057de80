/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The guest's entries are atomic words, since any thread may look at them to send. A change makes the entry's sequence
 * odd, changes, makes it even, and then looks at the pending bit. Who sends sets the pending bit first and then looks
 * at the entry: if it is being changed, or was while he looked, the one who changes it sees the bit and delivers in his
 * stead. All of this is sequentially consistent, so at least one of the two sees the other; exchanging the bit makes
 * sure that only one delivers.
 *
 * Whether a vector is open is derived after every change of the control register, the entry, COMMAND and the power
 * state; the port hears of differences alone.
 */
#include "machine/pci_msix.h"

#include <errno.h>

/* From the capability (PCI Local Bus 3.0, 6.8.2). */
#define MSIX_BYTES 12u
#define MSIX_CONTROL 2u
#define MSIX_ENABLE 0x8000u
#define MSIX_FUNCTION_MASK 0x4000u
#define MSIX_TABLE 4u
#define MSIX_PENDING 8u

enum { WORD_ADDRESS, WORD_UPPER_ADDRESS, WORD_DATA, WORD_CONTROL, WORDS };
#define VECTOR_MASKED 0x1u

#define STATE_TAG 0x5849534d /* "MSIX" */
#define STATE_VERSION 1
/* A vector's: its words, and whether it is pending. */
#define STATE_VECTOR_BYTES 20u

static bool is_open(const struct pci_msix *msix, const struct pci_msix_vector *vector)
{
    uint32_t control = pci_function_get(msix->function, msix->capability.offset + MSIX_CONTROL, 2);
    return (control & (MSIX_ENABLE | MSIX_FUNCTION_MASK)) == MSIX_ENABLE &&
           !(atomic_load(&vector->words[WORD_CONTROL]) & VECTOR_MASKED) && pci_function_is_bus_master(msix->function);
}

static struct msi_message message_of(const struct pci_msix_vector *vector)
{
    return (struct msi_message){
        .address = atomic_load(&vector->words[WORD_ADDRESS]) | (uint64_t)atomic_load(&vector->words[WORD_UPPER_ADDRESS])
                                                                   << 32,
        .data = atomic_load(&vector->words[WORD_DATA]),
    };
}

/* ---- sending: any thread ---- */

static void deliver(struct pci_msix *msix, struct pci_msix_vector *vector)
{
    struct msi_port *port = msix->function->root ? msix->function->root->options.msi : NULL;
    uint32_t sequence = atomic_load(&vector->sequence);
    bool open = atomic_load(&vector->open);
    struct msi_message message = message_of(vector);
    if ((sequence & 1) != 0 || atomic_load(&vector->sequence) != sequence)
        return; /* whoever changes it looks afterwards */
    if (port && open && atomic_exchange(&vector->pending, false))
        msi_send(port, pci_function_id(msix->function), &message);
}

void pci_msix_send(struct pci_msix *msix, unsigned index)
{
    if (index >= msix->count || !pci_msix_is_enabled(msix))
        return;
    struct pci_msix_vector *vector = &msix->vectors[index_mask(index, msix->count)];
    atomic_store(&vector->pending, true);
    deliver(msix, vector);
}

/* ---- changing: under the machine's lock ---- */

/* Change word @word of a vector (WORDS: none) to @value, and derive whether it is open. */
static void change(struct pci_msix *msix, unsigned index, unsigned word, uint32_t value)
{
    struct pci_msix_vector *vector = &msix->vectors[index];
    const struct msi_message before = message_of(vector);
    bool was_open = atomic_load(&vector->open);
    atomic_fetch_add(&vector->sequence, 1);
    if (word < WORDS)
        atomic_store(&vector->words[word], value);
    bool open = is_open(msix, vector);
    atomic_store(&vector->open, open);
    if (!pci_msix_is_enabled(msix))
        atomic_store(&vector->pending, false);
    atomic_fetch_add(&vector->sequence, 1);

    const struct msi_message now = message_of(vector);
    bool differs = now.address != before.address || now.data != before.data;
    if ((open != was_open || (open && differs)) && msix->port && msix->port->class->changed)
        msix->port->class->changed(msix->port, index, open ? &now : NULL);
    if (open && atomic_load(&vector->pending))
        deliver(msix, vector);
}

static void update(struct pci_msix *msix)
{
    uint32_t control = pci_function_get(msix->function, msix->capability.offset + MSIX_CONTROL, 2);
    atomic_store(&msix->enabled, (control & MSIX_ENABLE) != 0);
    for (unsigned i = 0; i < msix->count; i++)
        change(msix, i, WORDS, 0);
}

bool pci_msix_message(const struct pci_msix *msix, unsigned index, struct msi_message *ret_message)
{
    if (index >= msix->count || !atomic_load(&msix->vectors[index].open))
        return false;
    *ret_message = message_of(&msix->vectors[index]);
    return true;
}

/* ---- the capability ---- */

static struct pci_msix *msix_of(const struct pci_capability *capability)
{
    return container_of((uintptr_t)capability, struct pci_msix, capability);
}

static enum bus_result written(struct pci_capability *capability, struct pci_function *function, unsigned offset,
                               unsigned size)
{
    (void)function;
    (void)offset;
    (void)size;
    update(msix_of(capability));
    return BUS_DONE;
}

static void changed(struct pci_capability *capability, struct pci_function *function)
{
    (void)function;
    update(msix_of(capability));
}

/* As after power-on: every vector masked (PCI Local Bus 3.0, 6.8.2.9). */
static void clear(struct pci_msix *msix)
{
    for (unsigned i = 0; i < msix->count; i++) {
        struct pci_msix_vector *vector = &msix->vectors[i];
        atomic_store(&vector->pending, false);
        change(msix, i, WORD_CONTROL, VECTOR_MASKED);
        for (unsigned word = WORD_ADDRESS; word <= WORD_DATA; word++)
            atomic_store(&vector->words[word], 0);
    }
}

static void reset(struct pci_capability *capability, struct pci_function *function)
{
    (void)function;
    struct pci_msix *msix = msix_of(capability);
    update(msix);
    clear(msix);
}

static bool is_pending(const struct pci_msix *msix, unsigned index)
{
    const struct pci_msix_vector *vector = &msix->vectors[index];
    if (atomic_load(&vector->pending))
        return true;
    return !atomic_load(&vector->open) && pci_msix_is_enabled(msix) && msix->port && msix->port->class->pending &&
           msix->port->class->pending(msix->port, index);
}

static int save(const struct pci_capability *capability, struct state_writer *writer)
{
    const struct pci_msix *msix = msix_of(capability);
    size_t mark;
    int r = state_begin(writer, STATE_TAG, STATE_VERSION, &mark);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < msix->count && r == 0; i++) {
        uint8_t bytes[STATE_VECTOR_BYTES] = {0};
        for (unsigned word = 0; word < WORDS; word++)
            put_le32(bytes + (size_t)4 * word, atomic_load(&msix->vectors[i].words[word]));
        bytes[(size_t)4 * WORDS] = is_pending(msix, i);
        r = state_append(writer, bytes, sizeof(bytes));
    }
    return state_end(writer, mark, r);
}

static int load(struct pci_capability *capability, struct pci_function *function, struct state_reader *reader)
{
    (void)function;
    struct pci_msix *msix = msix_of(capability);
    struct state_record record;
    if (state_next(reader, &record) != 1 || record.tag != STATE_TAG ||
        record.length != msix->count * STATE_VECTOR_BYTES)
        return -EBADMSG;
    if (record.version > STATE_VERSION)
        return -ENOTSUP;
    update(msix);
    for (unsigned i = 0; i < msix->count; i++) {
        const uint8_t *from = record.payload + (size_t)i * STATE_VECTOR_BYTES;
        change(msix, i, WORD_CONTROL, VECTOR_MASKED); /* not to send half of it */
        for (unsigned word = WORD_ADDRESS; word <= WORD_DATA; word++)
            atomic_store(&msix->vectors[i].words[word],
                         get_le32(from + (size_t)4 * word) & (word == WORD_ADDRESS ? ~UINT32_C(3) : UINT32_MAX));
        atomic_store(&msix->vectors[i].pending, from[(size_t)4 * WORDS] == 1);
        change(msix, i, WORD_CONTROL, get_le32(from + (size_t)4 * WORD_CONTROL) & VECTOR_MASKED);
    }
    return 0;
}

static const struct pci_capability_class capability_class = {
    .name = "MSI-X",
    .written = written,
    .changed = changed,
    .reset = reset,
    .save = save,
    .load = load,
};

/* ---- the table and the pending bits ---- */

static bool is_in(uint64_t offset, uint32_t start, uint32_t bytes)
{
    return offset >= start && offset - start < bytes;
}

bool pci_msix_covers(const struct pci_msix *msix, uint64_t offset)
{
    return is_in(offset, msix->table_offset, pci_msix_table_bytes(msix->count)) ||
           is_in(offset, msix->pending_offset, pci_msix_pending_bytes(msix->count));
}

/* Bits of 32 vectors from @first on. */
static uint32_t pending_word(const struct pci_msix *msix, unsigned first)
{
    uint32_t word = 0;
    for (unsigned i = 0; i < 32 && first + i < msix->count; i++)
        word |= is_pending(msix, first + i) ? UINT32_C(1) << i : 0;
    return word;
}

static uint32_t read_word(const struct pci_msix *msix, uint64_t offset)
{
    if (is_in(offset, msix->table_offset, pci_msix_table_bytes(msix->count))) {
        size_t at = (size_t)(offset - msix->table_offset);
        const struct pci_msix_vector *vector = &msix->vectors[index_mask(at / PCI_MSIX_ENTRY_BYTES, msix->count)];
        return atomic_load(&vector->words[at / 4 % WORDS]);
    }
    if (is_in(offset, msix->pending_offset, pci_msix_pending_bytes(msix->count)))
        return pending_word(msix, (unsigned)(offset - msix->pending_offset) * 8);
    return 0;
}

static void write_word(struct pci_msix *msix, uint64_t offset, uint32_t value)
{
    if (!is_in(offset, msix->table_offset, pci_msix_table_bytes(msix->count)))
        return;
    size_t at = (size_t)(offset - msix->table_offset);
    unsigned word = at / 4 % WORDS;
    if (word == WORD_ADDRESS)
        value &= ~UINT32_C(3);
    else if (word == WORD_CONTROL)
        value &= VECTOR_MASKED;
    change(msix, (unsigned)index_mask(at / PCI_MSIX_ENTRY_BYTES, msix->count), word, value);
}

void pci_msix_read(struct pci_msix *msix, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    *ret_value = 0;
    if ((size != 4 && size != 8) || !is_aligned(offset, size))
        return;
    *ret_value = read_word(msix, offset);
    if (size == 8)
        *ret_value |= (uint64_t)read_word(msix, offset + 4) << 32;
}

void pci_msix_write(struct pci_msix *msix, uint64_t offset, unsigned size, uint64_t value)
{
    if ((size != 4 && size != 8) || !is_aligned(offset, size))
        return;
    write_word(msix, offset, (uint32_t)value);
    if (size == 8)
        write_word(msix, offset + 4, (uint32_t)(value >> 32));
}

static enum bus_result device_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    pci_msix_read(container_of(device, struct pci_msix, device), offset, size, ret_value);
    return BUS_DONE;
}

static enum bus_result device_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    pci_msix_write(container_of(device, struct pci_msix, device), offset, size, value);
    return BUS_DONE;
}

static const struct bus_device_class device_class = {.name = "MSI-X table", .read = device_read, .write = device_write};

int pci_msix_init(struct pci_msix *msix, struct pci_function *function, struct pci_msix_port *port,
                  struct pci_msix_vector *vectors, unsigned count, unsigned bar, uint32_t table_offset,
                  uint32_t pending_offset)
{
    if (count == 0 || count > PCI_MSIX_VECTORS_MAX || bar >= PCI_BAR_ROM || !is_aligned(table_offset, 8) ||
        !is_aligned(pending_offset, 8))
        return -EINVAL;
    memset(msix, 0, sizeof(*msix));
    msix->capability.class = &capability_class;
    msix->device.class = &device_class;
    msix->function = function;
    msix->port = port;
    msix->vectors = vectors;
    msix->count = count;
    msix->bar = (uint8_t)bar;
    msix->table_offset = table_offset;
    msix->pending_offset = pending_offset;
    uint8_t bytes[MSIX_BYTES] = {0};
    put_le16(bytes + MSIX_CONTROL, (uint16_t)(count - 1));
    put_le32(bytes + MSIX_TABLE, table_offset | bar);
    put_le32(bytes + MSIX_PENDING, pending_offset | bar);
    int r = pci_function_add_capability(function, &msix->capability, PCI_CAPABILITY_MSIX, bytes + 2, MSIX_BYTES);
    if (r < 0)
        return r;
    pci_function_set_writable(function, msix->capability.offset + MSIX_CONTROL, 2, MSIX_ENABLE | MSIX_FUNCTION_MASK);
    memset(vectors, 0, count * sizeof(*vectors));
    clear(msix);
    return 0;
}
