/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * Registers are one thing, places another. A write changes the register and nothing else; settle() then looks at all
 * BARs and derives where each of them is to be:
 *
 *   1. wanted: the address in the register, if decoders, windows and the bridge let it through. A BAR that wants
 *      something new is the last in the queue for it.
 *   2. plan: who is where he wants to be, stays. Then the others in the order of the queue, each if nobody planned
 *      overlaps it.
 *   3. apply: the difference between plan and places goes to the port as one set. Refused, it goes step by step: first
 *      what leaves, then each that comes, again in the order of the queue.
 *
 * So places are a function of the registers and of the order in which they came to be, and of nothing that happened in
 * between: sizing with decoders on, half-written 64-bit addresses and swaps need no case of their own.
 *
 * Limits
 *
 * A change costs as many steps as there are BARs, times those that wait and one. A guest that makes thousands wait pays
 * for it itself.
 */
#include "machine/pci_bar.h"

#include <errno.h>

#define MEMORY_FLAGS UINT32_C(0xf) /* PCI Local Bus 3.0, 6.2.5.1: the low bits are no address */
#define MEMORY_64 UINT32_C(0x4)
#define MEMORY_PREFETCHABLE UINT32_C(0x8)
#define PORTS_FLAGS UINT32_C(0x3)
#define PORTS UINT32_C(0x1)
#define ROM_FLAGS UINT32_C(0x7ff) /* 6.2.5.2 */
#define ROM_ENABLE UINT32_C(0x1)

#define MEMORY_BYTES_MIN 16
#define MEMORY_32_BYTES_MAX (UINT64_C(1) << 31)
#define MEMORY_64_BYTES_MAX (UINT64_C(1) << 62)
#define PORTS_BYTES_MIN 4
#define PORTS_BYTES_MAX (UINT64_C(1) << 16)
#define ROM_BYTES_MIN 2048
#define ROM_BYTES_MAX (UINT64_C(1) << 24)

/* A clock that a saved state brings is below this, so that it never wraps. */
#define CLOCK_MAX (UINT64_C(1) << 62)

/* NOLINTBEGIN(bugprone-macro-parentheses): what is declared is a name, not an expression. */
#define FOR_EACH_FUNCTION(engine, function)                                                                            \
    for (struct pci_bars *function = (engine)->functions; function; function = function->next)
#define FOR_EACH_BAR(function, bar)                                                                                    \
    for (struct pci_bar *bar = (function)->bars; bar < (function)->bars + PCI_BAR_REGISTERS; bar++)
/* NOLINTEND(bugprone-macro-parentheses) */

static enum pci_bar_space space_of(const struct pci_bar *bar)
{
    return bar->kind == PCI_BAR_PORTS ? PCI_BAR_IO : PCI_BAR_MEMORY;
}

static bool is_bar(const struct pci_bar *bar)
{
    return bar->kind != PCI_BAR_NONE && bar->kind != PCI_BAR_UPPER_HALF;
}

/* ---- who wants what ---- */

/* Does one of the windows let all of @bar through? */
static bool lets_through(const struct pci_bar_window *windows, unsigned count, const struct pci_bar *bar)
{
    for (unsigned i = 0; i < count; i++) {
        if (windows[i].space == space_of(bar) && bar->address >= windows[i].base &&
            range_within(bar->address - windows[i].base, bar->size, windows[i].size))
            return true;
    }
    return false;
}

static uint64_t wanted(const struct pci_bar_engine *engine, const struct pci_bars *function, const struct pci_bar *bar)
{
    if (!is_bar(bar) || !(bar->kind == PCI_BAR_PORTS ? function->io_decode : function->memory_decode) ||
        (bar->kind == PCI_BAR_EXPANSION_ROM && !bar->rom_enabled) ||
        !lets_through(engine->windows, engine->window_count, bar) ||
        (function->gate && !lets_through(function->gate->windows, function->gate->count, bar)))
        return 0;
    return bar->address;
}

static bool is_at_home(const struct pci_bar *bar)
{
    return bar->placed && bar->wanted == bar->base;
}

/* Whoever wants a place and has it not. */
static bool waits(const struct pci_bar *bar)
{
    return bar->wanted != 0 && !is_at_home(bar);
}

static void look_at_wishes(struct pci_bar_engine *engine)
{
    FOR_EACH_FUNCTION(engine, function)
    {
        FOR_EACH_BAR(function, bar)
        {
            uint64_t now = wanted(engine, function, bar);
            if (now != bar->wanted) {
                bar->wanted = now;
                bar->since = ++engine->clock;
                bar->claims = false;
            }
        }
    }
}

/* ---- the plan ---- */

static bool is_before(const struct pci_bar *a, const struct pci_bar *b)
{
    if (a->claims != b->claims)
        return a->claims;
    /* Two are equal only when a saved state lies; even then each has its turn. */
    return a->since != b->since ? a->since < b->since : (uintptr_t)a < (uintptr_t)b;
}

/* The next in the queue behind @last (NULL: the first), or NULL. */
static struct pci_bar *next_waiting(struct pci_bar_engine *engine, const struct pci_bar *last)
{
    struct pci_bar *found = NULL;
    FOR_EACH_FUNCTION(engine, function)
    {
        FOR_EACH_BAR(function, bar)
        {
            if (waits(bar) && (!last || is_before(last, bar)) && (!found || is_before(bar, found)))
                found = bar;
        }
    }
    return found;
}

static bool overlap(const struct pci_bar *a, const struct pci_bar *b)
{
    return space_of(a) == space_of(b) && a->wanted <= b->wanted + (b->size - 1) &&
           b->wanted <= a->wanted + (a->size - 1);
}

/* Would nobody whose place is planned be in the way of @newcomer? */
static bool is_free_for(struct pci_bar_engine *engine, const struct pci_bar *newcomer)
{
    FOR_EACH_FUNCTION(engine, function)
    {
        FOR_EACH_BAR(function, bar)
        {
            if (bar != newcomer && bar->planned && overlap(bar, newcomer))
                return false;
        }
    }
    return true;
}

static void plan_who_stays(struct pci_bar_engine *engine)
{
    FOR_EACH_FUNCTION(engine, function)
    {
        FOR_EACH_BAR(function, bar)
        {
            bar->planned = is_at_home(bar);
        }
    }
}

static void plan(struct pci_bar_engine *engine)
{
    plan_who_stays(engine);
    for (struct pci_bar *bar = NULL; (bar = next_waiting(engine, bar));)
        bar->planned = is_free_for(engine, bar);
}

/* ---- carrying it out ---- */

static void note(struct pci_bar_engine *engine, const struct pci_bar_move *moves, unsigned count)
{
    engine->moves_total += count;
    for (unsigned i = 0; i < count; i++) {
        moves[i].bar->placed = moves[i].placed;
        moves[i].bar->base = moves[i].base;
    }
}

static int apply(struct pci_bar_engine *engine, unsigned count)
{
    int r = engine->port->class->apply(engine->port, engine->moves, count);
    if (r == 0)
        note(engine, engine->moves, count);
    else
        engine->refused_total++;
    return r;
}

static void depart(struct pci_bar_engine *engine, unsigned count)
{
    int r = apply(engine, count);
    ASSERT(r == 0);
}

/* All that leave, whatever is planned for them afterwards. */
static void depart_all(struct pci_bar_engine *engine)
{
    unsigned count = 0;
    FOR_EACH_FUNCTION(engine, function)
    {
        FOR_EACH_BAR(function, bar)
        {
            if (!bar->placed || is_at_home(bar))
                continue;
            engine->moves[count++] = (struct pci_bar_move){.bar = bar};
            if (count == PCI_BAR_MOVES_MAX) {
                depart(engine, count);
                count = 0;
            }
        }
    }
    if (count > 0)
        depart(engine, count);
}

static void step_by_step(struct pci_bar_engine *engine)
{
    depart_all(engine);
    plan_who_stays(engine);
    for (struct pci_bar *bar = NULL; (bar = next_waiting(engine, bar));) {
        if (!is_free_for(engine, bar))
            continue;
        engine->moves[0] = (struct pci_bar_move){.bar = bar, .base = bar->wanted, .placed = true};
        bar->planned = apply(engine, 1) == 0;
    }
}

/* Put the difference between plan and places into engine->moves. Its number, or one more than there is room. */
static unsigned gather(struct pci_bar_engine *engine)
{
    unsigned count = 0;
    FOR_EACH_FUNCTION(engine, function)
    {
        FOR_EACH_BAR(function, bar)
        {
            if (bar->planned ? is_at_home(bar) : !bar->placed)
                continue;
            if (count == PCI_BAR_MOVES_MAX)
                return count + 1;
            engine->moves[count++] =
                (struct pci_bar_move){.bar = bar, .base = bar->planned ? bar->wanted : 0, .placed = bar->planned};
        }
    }
    return count;
}

static void settle(struct pci_bar_engine *engine)
{
    if (engine->held > 0)
        return;
    look_at_wishes(engine);
    plan(engine);
    unsigned count = gather(engine);
    if (count > PCI_BAR_MOVES_MAX || (count > 0 && apply(engine, count) < 0))
        step_by_step(engine);
}

/* ---- the engine ---- */

void pci_bar_engine_init(struct pci_bar_engine *engine, struct pci_bar_port *port)
{
    memset(engine, 0, sizeof(*engine));
    engine->port = port;
}

int pci_bar_engine_add_window(struct pci_bar_engine *engine, const struct pci_bar_window *window)
{
    uint64_t end;
    if (window->size == 0 || add_overflows_u64(window->base, window->size, &end))
        return -EINVAL;
    if (engine->window_count == PCI_BAR_WINDOWS_MAX)
        return -ENOSPC;
    engine->windows[engine->window_count++] = *window;
    settle(engine);
    return 0;
}

void pci_bar_engine_hold(struct pci_bar_engine *engine)
{
    engine->held++;
}

void pci_bar_engine_release(struct pci_bar_engine *engine)
{
    ASSERT(engine->held > 0);
    engine->held--;
    settle(engine);
}

void pci_bar_engine_retry(struct pci_bar_engine *engine)
{
    settle(engine);
}

void pci_bar_gate_set(struct pci_bar_engine *engine, struct pci_bar_gate *gate, const struct pci_bar_window *windows,
                      unsigned count)
{
    ASSERT(count <= PCI_BAR_GATE_WINDOWS);
    for (unsigned i = 0; i < count; i++)
        gate->windows[i] = windows[i];
    gate->count = count;
    settle(engine);
}

/* ---- functions ---- */

static bool size_fits(enum pci_bar_kind kind, uint64_t size)
{
    if (!is_power_of_two(size))
        return false;
    switch (kind) {
    case PCI_BAR_MEMORY_32:
        return size >= MEMORY_BYTES_MIN && size <= MEMORY_32_BYTES_MAX;
    case PCI_BAR_MEMORY_64:
        return size >= MEMORY_BYTES_MIN && size <= MEMORY_64_BYTES_MAX;
    case PCI_BAR_PORTS:
        return size >= PORTS_BYTES_MIN && size <= PORTS_BYTES_MAX;
    case PCI_BAR_EXPANSION_ROM:
        return size >= ROM_BYTES_MIN && size <= ROM_BYTES_MAX;
    default:
        return false;
    }
}

int pci_bar_set_up(struct pci_bars *bars, unsigned index, enum pci_bar_kind kind, bool prefetchable, uint64_t size,
                   void *content)
{
    bool wide = kind == PCI_BAR_MEMORY_64;
    if (index >= PCI_BAR_REGISTERS || !size_fits(kind, size) ||
        (kind == PCI_BAR_EXPANSION_ROM) != (index == PCI_BAR_ROM) || (wide && index + 1 >= PCI_BAR_ROM))
        return -EINVAL;
    if (bars->bars[index].kind != PCI_BAR_NONE || (wide && bars->bars[index + 1].kind != PCI_BAR_NONE))
        return -EEXIST;
    bars->bars[index] = (struct pci_bar){
        .kind = kind,
        .prefetchable = prefetchable && kind != PCI_BAR_PORTS && kind != PCI_BAR_EXPANSION_ROM,
        .size = size,
        .content = content,
    };
    if (wide)
        bars->bars[index + 1] = (struct pci_bar){.kind = PCI_BAR_UPPER_HALF};
    return 0;
}

void pci_bars_add(struct pci_bar_engine *engine, struct pci_bars *bars, const struct pci_bar_gate *gate)
{
    ASSERT(bars->engine == NULL);
    bars->engine = engine;
    bars->gate = gate;
    bars->next = NULL;
    struct pci_bars **at = &engine->functions;
    while (*at)
        at = &(*at)->next;
    *at = bars;
    settle(engine);
}

void pci_bars_remove(struct pci_bars *bars)
{
    struct pci_bar_engine *engine = bars->engine;
    if (!engine)
        return;
    /* At once, even when it is held: the object is about to go. */
    unsigned count = 0;
    FOR_EACH_BAR(bars, bar)
    {
        if (bar->placed)
            engine->moves[count++] = (struct pci_bar_move){.bar = bar};
        bar->wanted = 0;
        bar->claims = false;
    }
    if (count > 0)
        depart(engine, count);
    struct pci_bars **at = &engine->functions;
    while (*at != bars)
        at = &(*at)->next;
    *at = bars->next;
    bars->next = NULL;
    bars->engine = NULL;
    bars->gate = NULL;
    settle(engine);
}

static void changed(struct pci_bars *bars)
{
    if (bars->engine)
        settle(bars->engine);
}

/* ---- registers ---- */

uint32_t pci_bars_read(const struct pci_bars *bars, unsigned index)
{
    if (index >= PCI_BAR_REGISTERS)
        return 0;
    const struct pci_bar *bar = &bars->bars[index];
    uint32_t prefetchable = bar->prefetchable ? MEMORY_PREFETCHABLE : 0;
    switch (bar->kind) {
    case PCI_BAR_NONE:
        return 0;
    case PCI_BAR_MEMORY_32:
        return (uint32_t)bar->address | prefetchable;
    case PCI_BAR_MEMORY_64:
        return (uint32_t)bar->address | prefetchable | MEMORY_64;
    case PCI_BAR_UPPER_HALF:
        return (uint32_t)(bars->bars[index - 1].address >> 32);
    case PCI_BAR_PORTS:
        return (uint32_t)bar->address | PORTS;
    case PCI_BAR_EXPANSION_ROM:
        return (uint32_t)bar->address | (bar->rom_enabled ? ROM_ENABLE : 0);
    }
    return 0;
}

/* The register's address is @address, as far as it has bits for it. */
static void set(struct pci_bar *bar, uint64_t address)
{
    bar->address = align_down(address, bar->size);
}

void pci_bars_write(struct pci_bars *bars, unsigned index, uint32_t value)
{
    if (index >= PCI_BAR_REGISTERS)
        return;
    struct pci_bar *bar = &bars->bars[index];
    switch (bar->kind) {
    case PCI_BAR_NONE:
        return;
    case PCI_BAR_MEMORY_32:
        set(bar, value & ~MEMORY_FLAGS);
        break;
    case PCI_BAR_MEMORY_64:
        set(bar, (bar->address >> 32) << 32 | (value & ~MEMORY_FLAGS));
        break;
    case PCI_BAR_UPPER_HALF:
        set(bar - 1, (uint64_t)value << 32 | (uint32_t)bar[-1].address);
        break;
    case PCI_BAR_PORTS:
        set(bar, value & ~PORTS_FLAGS);
        break;
    case PCI_BAR_EXPANSION_ROM:
        set(bar, value & ~ROM_FLAGS);
        bar->rom_enabled = (value & ROM_ENABLE) != 0;
        break;
    }
    changed(bars);
}

void pci_bars_decode(struct pci_bars *bars, bool memory, bool io)
{
    if (bars->memory_decode == memory && bars->io_decode == io)
        return;
    bars->memory_decode = memory;
    bars->io_decode = io;
    changed(bars);
}

void pci_bars_set_address(struct pci_bars *bars, unsigned index, uint64_t address)
{
    ASSERT(index < PCI_BAR_REGISTERS && is_bar(&bars->bars[index]));
    set(&bars->bars[index], bars->bars[index].kind == PCI_BAR_MEMORY_64 ? address : (uint32_t)address);
    changed(bars);
}

void pci_bars_reset(struct pci_bars *bars)
{
    bars->memory_decode = bars->io_decode = false;
    FOR_EACH_BAR(bars, bar)
    {
        bar->address = 0;
        bar->rom_enabled = false;
    }
    changed(bars);
}

/* ---- state ---- */

/* Of each BAR: address, since, flags, kind; then the decoders. */
enum { AT_ADDRESS = 0, AT_SINCE = 8, AT_FLAGS = 16, AT_KIND = 20, BAR_BYTES = 24 };
enum { FLAG_ROM = 1, FLAG_PLACED = 2, FLAG_WAITS = 4 };
enum { DECODE_MEMORY = 1, DECODE_IO = 2 };
#define AT_DECODE ((size_t)PCI_BAR_REGISTERS * BAR_BYTES)

static uint32_t kind_and_size(const struct pci_bar *bar)
{
    return (uint32_t)bar->kind | (bar->size > 0 ? (uint32_t)__builtin_ctzll(bar->size) << 8 : 0);
}

void pci_bars_save(const struct pci_bars *bars, uint8_t to[PCI_BARS_STATE_BYTES])
{
    memset(to, 0, PCI_BARS_STATE_BYTES);
    for (unsigned i = 0; i < PCI_BAR_REGISTERS; i++) {
        const struct pci_bar *bar = &bars->bars[i];
        uint8_t *at = to + (size_t)i * BAR_BYTES;
        put_le64(at + AT_ADDRESS, bar->address);
        put_le64(at + AT_SINCE, bar->since);
        put_le32(at + AT_FLAGS, (bar->rom_enabled ? FLAG_ROM : 0) | (is_at_home(bar) ? FLAG_PLACED : 0) |
                                    (waits(bar) ? FLAG_WAITS : 0));
        put_le32(at + AT_KIND, kind_and_size(bar));
    }
    put_le32(to + AT_DECODE, (bars->memory_decode ? DECODE_MEMORY : 0) | (bars->io_decode ? DECODE_IO : 0));
}

static bool is_sound(const struct pci_bar *bar, const uint8_t *from)
{
    uint64_t address = get_le64(from + AT_ADDRESS);
    uint32_t flags = get_le32(from + AT_FLAGS);
    if (get_le32(from + AT_KIND) != kind_and_size(bar) || get_le64(from + AT_SINCE) > CLOCK_MAX ||
        (flags & ~(uint32_t)(FLAG_ROM | FLAG_PLACED | FLAG_WAITS)) != 0)
        return false;
    if (!is_bar(bar))
        return address == 0 && flags == 0;
    return is_aligned(address, bar->size) && (bar->kind == PCI_BAR_MEMORY_64 || address <= UINT32_MAX) &&
           (bar->kind == PCI_BAR_EXPANSION_ROM || !(flags & FLAG_ROM));
}

int pci_bars_load(struct pci_bars *bars, const uint8_t from[PCI_BARS_STATE_BYTES])
{
    ASSERT(bars->engine);
    uint32_t decode = get_le32(from + AT_DECODE);
    if ((decode & ~(uint32_t)(DECODE_MEMORY | DECODE_IO)) != 0)
        return -EBADMSG;
    for (unsigned i = 0; i < PCI_BAR_REGISTERS; i++) {
        if (!is_sound(&bars->bars[i], from + (size_t)i * BAR_BYTES))
            return -EBADMSG;
    }
    for (unsigned i = 0; i < PCI_BAR_REGISTERS; i++) {
        struct pci_bar *bar = &bars->bars[i];
        const uint8_t *at = from + (size_t)i * BAR_BYTES;
        uint32_t flags = get_le32(at + AT_FLAGS);
        if (bar->placed && !(flags & FLAG_PLACED)) { /* who waited then does not sit there now */
            bars->engine->moves[0] = (struct pci_bar_move){.bar = bar};
            depart(bars->engine, 1);
        }
        bar->address = get_le64(at + AT_ADDRESS);
        bar->since = get_le64(at + AT_SINCE);
        bar->rom_enabled = (flags & FLAG_ROM) != 0;
        bar->claims = (flags & FLAG_PLACED) != 0;
        bar->wanted = (flags & (FLAG_PLACED | FLAG_WAITS)) != 0 ? bar->address : 0;
        if (bar->since > bars->engine->clock)
            bars->engine->clock = bar->since;
    }
    bars->memory_decode = (decode & DECODE_MEMORY) != 0;
    bars->io_decode = (decode & DECODE_IO) != 0;
    changed(bars);
    return 0;
}
