/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The BAR engine and a naive model of it are driven with the same writes, and must agree on every register and on who
 * answers where. The model has no plan and no sets: it writes each BAR's number into every byte that it occupies, takes
 * away who has to go, and then lets those who wait try in the order of their coming.
 *
 * The port has a memory of its own of who is where, in which no set may place two in one byte, refuses what touches its
 * fixed device, and large sets when it is in the mood. Now and then everything is saved, and goes on in another engine.
 */
#include "fuzz_input.h"
#include "machine/pci_bar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUNCTIONS 5
#define STEPS_MAX 300
#define NUMBER(function, index) ((int)((function)*PCI_BAR_REGISTERS + (index) + 1))
#define NUMBERS (FUNCTIONS * PCI_BAR_REGISTERS + 1)

/* The world: three windows, each an array of bytes. */
enum { IO, LOW, HIGH, AREAS };
#define AREA_BYTES 0x4000u
static const struct pci_bar_window areas[AREAS] = {
    [IO] = {PCI_BAR_IO, 0x100, 0x200},
    [LOW] = {PCI_BAR_MEMORY, 0x1000, AREA_BYTES},
    [HIGH] = {PCI_BAR_MEMORY, UINT64_C(0x300001000), 0x800},
};

struct world {
    uint8_t owner[AREAS][AREA_BYTES];
};

/* What each function has. */
static const struct {
    unsigned index;
    enum pci_bar_kind kind;
    bool prefetchable;
    uint64_t size;
} shapes[FUNCTIONS][4] = {
    {{0, PCI_BAR_MEMORY_32, false, 0x400}, {1, PCI_BAR_PORTS, false, 0x20}, {2, PCI_BAR_MEMORY_64, true, 0x200}},
    {{0, PCI_BAR_MEMORY_64, true, 0x800},
     {2, PCI_BAR_MEMORY_64, false, 0x400},
     {5, PCI_BAR_PORTS, false, 0x100},
     {PCI_BAR_ROM, PCI_BAR_EXPANSION_ROM, false, 0x800}},
    {{4, PCI_BAR_MEMORY_64, true, 0x1000}, {1, PCI_BAR_MEMORY_32, false, 0x10}, {0, PCI_BAR_PORTS, false, 4}},
    {{0, PCI_BAR_MEMORY_32, true, 0x1000}, {PCI_BAR_ROM, PCI_BAR_EXPANSION_ROM, false, 0x1000}},
    {{3, PCI_BAR_MEMORY_64, false, UINT64_C(1) << 33}, {0, PCI_BAR_MEMORY_32, false, 0x2000}},
};

static struct pci_bar_engine engines[2];
static struct pci_bars functions[2][FUNCTIONS];
static unsigned current; /* of the two */
static struct pci_bar_gate gate;

/* ---- places as bytes ---- */

static int area_of(bool io, uint64_t base, uint64_t size)
{
    for (int area = 0; area < AREAS; area++) {
        if ((areas[area].space == PCI_BAR_IO) == io && base >= areas[area].base &&
            base - areas[area].base < areas[area].size && size <= areas[area].size - (base - areas[area].base))
            return area;
    }
    return -1;
}

static bool all_are(const struct world *world, int area, uint64_t base, uint64_t size, int owner)
{
    for (uint64_t i = 0; i < size; i++) {
        if (world->owner[area][base - areas[area].base + i] != owner)
            return false;
    }
    return true;
}

static void fill(struct world *world, int area, uint64_t base, uint64_t size, int owner)
{
    memset(&world->owner[area][base - areas[area].base], owner, size);
}

/* ---- the port ---- */

static struct {
    struct pci_bar_port port;
    struct world world;
    uint64_t fixed_base, fixed_size; /* in LOW; size 0: it is not there */
    unsigned set_max;                /* larger sets are refused */
} port;

static bool is_refused(bool io, uint64_t base, uint64_t size)
{
    return !io && port.fixed_size > 0 && base < port.fixed_base + port.fixed_size && port.fixed_base < base + size;
}

static int number_of(const struct pci_bar *bar)
{
    for (unsigned f = 0; f < FUNCTIONS; f++) {
        for (unsigned i = 0; i < PCI_BAR_REGISTERS; i++) {
            if (bar == &functions[current][f].bars[i])
                return NUMBER(f, i);
        }
    }
    ASSERT(false);
    return 0;
}

static int port_apply(struct pci_bar_port *self, const struct pci_bar_move *moves, unsigned count)
{
    static struct world after;
    bool arrivals = false;
    ASSERT(self == &port.port && count > 0);
    after = port.world;
    for (unsigned i = 0; i < count; i++) {
        const struct pci_bar *bar = moves[i].bar;
        bool io = bar->kind == PCI_BAR_PORTS;
        ASSERT(bar->placed || moves[i].placed);
        if (!bar->placed)
            continue;
        int area = area_of(io, bar->base, bar->size);
        ASSERT(area >= 0 && all_are(&port.world, area, bar->base, bar->size, number_of(bar)));
        fill(&after, area, bar->base, bar->size, 0);
    }
    for (unsigned i = 0; i < count; i++) {
        const struct pci_bar *bar = moves[i].bar;
        bool io = bar->kind == PCI_BAR_PORTS;
        if (!moves[i].placed)
            continue;
        arrivals = true;
        int area = area_of(io, moves[i].base, bar->size);
        ASSERT(area >= 0 && all_are(&after, area, moves[i].base, bar->size, 0));
        if (is_refused(io, moves[i].base, bar->size))
            return -1;
        fill(&after, area, moves[i].base, bar->size, number_of(bar));
    }
    if (arrivals && count > port.set_max)
        return -2;
    port.world = after;
    return 0;
}

static const struct pci_bar_port_class port_class = {.apply = port_apply};

/* ---- the model ---- */

static struct {
    struct world world;
    uint32_t registers[FUNCTIONS][PCI_BAR_REGISTERS];
    bool memory[FUNCTIONS], io[FUNCTIONS], plugged[FUNCTIONS];
    uint64_t want[NUMBERS], place[NUMBERS];
    int queue[NUMBERS];
    unsigned queued;
    struct pci_bar_window gate_window; /* size 0: closed */
    unsigned held;
} model;

static int shape_of(unsigned function, unsigned index)
{
    for (int i = 0; i < 4; i++) {
        if (shapes[function][i].kind != PCI_BAR_NONE && shapes[function][i].index == index)
            return i;
    }
    return -1;
}

/* The second half of a 64-bit one? */
static int lower_shape_of(unsigned function, unsigned index)
{
    int shape = index > 0 ? shape_of(function, index - 1) : -1;
    return shape >= 0 && shapes[function][shape].kind == PCI_BAR_MEMORY_64 ? shape : -1;
}

static void model_write(unsigned function, unsigned index, uint32_t value)
{
    int shape = shape_of(function, index), lower = lower_shape_of(function, index);
    uint32_t *to = &model.registers[function][index];
    if (shape < 0 && lower < 0)
        return;
    if (shape < 0) {
        *to = value & (uint32_t)(~(shapes[function][lower].size - 1) >> 32);
        return;
    }
    uint32_t mask = (uint32_t) ~(shapes[function][shape].size - 1);
    switch (shapes[function][shape].kind) {
    case PCI_BAR_PORTS:
        *to = (value & mask) | 1;
        break;
    case PCI_BAR_EXPANSION_ROM:
        *to = value & (mask | 1);
        break;
    default:
        *to = (value & mask) | (shapes[function][shape].kind == PCI_BAR_MEMORY_64 ? 4 : 0) |
              (shapes[function][shape].prefetchable ? 8 : 0);
    }
}

static uint64_t model_address(unsigned function, int shape)
{
    unsigned index = shapes[function][shape].index;
    uint64_t value = model.registers[function][index];
    switch (shapes[function][shape].kind) {
    case PCI_BAR_PORTS:
        return value & ~UINT64_C(3);
    case PCI_BAR_EXPANSION_ROM:
        return value & 1 ? value & ~UINT64_C(0x7ff) : 0;
    case PCI_BAR_MEMORY_64:
        value |= (uint64_t)model.registers[function][index + 1] << 32;
        return value & ~UINT64_C(15);
    default:
        return value & ~UINT64_C(15);
    }
}

static uint64_t model_want(unsigned function, int shape)
{
    bool io = shapes[function][shape].kind == PCI_BAR_PORTS;
    uint64_t address = model_address(function, shape), size = shapes[function][shape].size;
    if (!model.plugged[function] || !(io ? model.io[function] : model.memory[function]) ||
        area_of(io, address, size) < 0)
        return 0;
    if (function % 2 == 1) { /* behind the gate */
        const struct pci_bar_window *window = &model.gate_window;
        if (io || address < window->base || address + size > window->base + window->size)
            return 0;
    }
    return address;
}

static void model_settle(void)
{
    if (model.held > 0)
        return;
    for (unsigned f = 0; f < FUNCTIONS; f++) {
        for (unsigned i = 0; i < PCI_BAR_REGISTERS; i++) {
            int number = NUMBER(f, i), shape = shape_of(f, i);
            uint64_t want = shape < 0 ? 0 : model_want(f, shape);
            if (want == model.want[number])
                continue;
            model.want[number] = want;
            unsigned kept = 0;
            for (unsigned q = 0; q < model.queued; q++) {
                if (model.queue[q] != number)
                    model.queue[kept++] = model.queue[q];
            }
            model.queued = kept;
            if (want != 0)
                model.queue[model.queued++] = number;
            if (model.place[number] != 0) {
                bool io = shapes[f][shape].kind == PCI_BAR_PORTS;
                fill(&model.world, area_of(io, model.place[number], shapes[f][shape].size), model.place[number],
                     shapes[f][shape].size, 0);
                model.place[number] = 0;
            }
        }
    }
    for (unsigned q = 0; q < model.queued; q++) {
        int number = model.queue[q];
        unsigned f = (unsigned)(number - 1) / PCI_BAR_REGISTERS, i = (unsigned)(number - 1) % PCI_BAR_REGISTERS;
        int shape = shape_of(f, i);
        bool io = shapes[f][shape].kind == PCI_BAR_PORTS;
        uint64_t base = model.want[number], size = shapes[f][shape].size;
        int area = area_of(io, base, size);
        if (model.place[number] != 0 || !all_are(&model.world, area, base, size, 0) || is_refused(io, base, size))
            continue;
        fill(&model.world, area, base, size, number);
        model.place[number] = base;
    }
}

static void compare(void)
{
    for (unsigned f = 0; f < FUNCTIONS; f++) {
        for (unsigned i = 0; i < PCI_BAR_REGISTERS; i++) {
            const struct pci_bar *bar = &functions[current][f].bars[i];
            ASSERT(pci_bars_read(&functions[current][f], i) == model.registers[f][i]);
            ASSERT((bar->placed ? bar->base : 0) == model.place[NUMBER(f, i)]);
        }
    }
    ASSERT(memcmp(&port.world, &model.world, sizeof(port.world)) == 0);
}

/* ---- both ---- */

static void build(unsigned which)
{
    struct pci_bar_engine *engine = &engines[which];
    pci_bar_engine_init(engine, &port.port);
    for (unsigned i = 0; i < AREAS; i++) {
        int r = pci_bar_engine_add_window(engine, &areas[i]);
        ASSERT(r == 0);
    }
    memset(functions[which], 0, sizeof(functions[which]));
    for (unsigned f = 0; f < FUNCTIONS; f++) {
        for (unsigned i = 0; i < ARRAY_SIZE(shapes[f]) && shapes[f][i].kind != PCI_BAR_NONE; i++) {
            int r = pci_bar_set_up(&functions[which][f], shapes[f][i].index, shapes[f][i].kind,
                                   shapes[f][i].prefetchable, shapes[f][i].size, NULL);
            ASSERT(r == 0);
        }
        if (model.plugged[f])
            pci_bars_add(engine, &functions[which][f], f % 2 == 1 ? &gate : NULL);
    }
}

/* Everything saved, the port's side cleared, and loaded into another engine, which goes on. */
static void transfer(void)
{
    uint8_t states[FUNCTIONS][PCI_BARS_STATE_BYTES], again[PCI_BARS_STATE_BYTES];
    /* What the fixed device has left free is tried at any change: also at this one. */
    pci_bar_engine_retry(&engines[current]);
    model_settle();
    for (unsigned f = 0; f < FUNCTIONS; f++) {
        if (!model.plugged[f])
            return; /* a function that is not there has no state */
        pci_bars_save(&functions[current][f], states[f]);
    }
    memset(&port.world, 0, sizeof(port.world));
    current ^= 1;
    build(current);
    pci_bar_engine_hold(&engines[current]);
    for (unsigned f = FUNCTIONS; f-- > 0;) {
        int r = pci_bars_load(&functions[current][f], states[f]);
        ASSERT(r == 0);
    }
    pci_bar_engine_release(&engines[current]);
    for (unsigned f = 0; f < FUNCTIONS; f++) {
        pci_bars_save(&functions[current][f], again);
        ASSERT(memcmp(again, states[f], sizeof(again)) == 0);
    }
}

static uint32_t some_value(struct fuzz_input *input)
{
    uint8_t way = fuzz_u8(input);
    switch (way % 6) {
    case 0:
        return UINT32_MAX; /* sizing */
    case 1:
        return 0x100 + ((uint32_t)(way >> 3) << 4);
    case 2:
        return fuzz_u32(input);
    case 3:
        return 3; /* upper half of HIGH */
    default:
        return 0x1000 + ((uint32_t)fuzz_u8(input) << 10) % AREA_BYTES + (way >> 7); /* few places, many quarrels */
    }
}

static void set_gate(struct fuzz_input *input)
{
    struct pci_bar_window window = {.space = PCI_BAR_MEMORY};
    uint8_t how = fuzz_u8(input);
    window.base = how & 1 ? areas[HIGH].base : areas[LOW].base + ((uint64_t)(how >> 4) << 10);
    window.size = how & 2 ? (how & 1 ? areas[HIGH].size : 0x1000) : 0;
    model.gate_window = window;
    pci_bar_gate_set(&engines[current], &gate, &window, window.size > 0);
}

static void plug(unsigned f)
{
    model.plugged[f] = !model.plugged[f];
    if (model.plugged[f]) {
        pci_bars_add(&engines[current], &functions[current][f], f % 2 == 1 ? &gate : NULL);
        return;
    }
    pci_bars_remove(&functions[current][f]);
    /* It leaves at once, held or not, and nobody else moves while held. */
    for (unsigned i = 0; i < PCI_BAR_REGISTERS; i++) {
        int number = NUMBER(f, i), shape = shape_of(f, i);
        if (shape < 0 || model.place[number] == 0)
            continue;
        bool io = shapes[f][shape].kind == PCI_BAR_PORTS;
        fill(&model.world, area_of(io, model.place[number], shapes[f][shape].size), model.place[number],
             shapes[f][shape].size, 0);
        model.place[number] = 0;
    }
    for (unsigned i = 0; i < PCI_BAR_REGISTERS; i++) {
        unsigned kept = 0;
        for (unsigned q = 0; q < model.queued; q++) {
            if (model.queue[q] != NUMBER(f, i))
                model.queue[kept++] = model.queue[q];
        }
        model.queued = kept;
        model.want[NUMBER(f, i)] = 0;
    }
}

static void step(struct fuzz_input *input)
{
    uint8_t what = fuzz_u8(input);
    unsigned f = (what >> 4) % FUNCTIONS;
    uint8_t index = fuzz_u8(input) % (PCI_BAR_REGISTERS + 1);
    uint32_t value;
    switch (what & 15) {
    case 0:
    case 1:
        model.memory[f] = index & 1;
        model.io[f] = index & 2;
        pci_bars_decode(&functions[current][f], model.memory[f], model.io[f]);
        break;
    case 2:
        set_gate(input);
        break;
    case 3:
        plug(f);
        break;
    case 4:
        model.held++;
        pci_bar_engine_hold(&engines[current]);
        break;
    case 5:
        if (model.held == 0)
            return;
        model.held--;
        pci_bar_engine_release(&engines[current]);
        break;
    case 6:
        port.fixed_base = areas[LOW].base + ((uint64_t)index << 10);
        port.fixed_size = index < 4 ? 0x200 : 0;
        if (!all_are(&port.world, LOW, port.fixed_base, port.fixed_size, 0))
            port.fixed_size = 0;
        pci_bar_engine_retry(&engines[current]);
        break;
    case 7:
        port.set_max = index == 0 ? 1 : PCI_BAR_MOVES_MAX;
        return;
    case 8:
        if (model.held == 0)
            transfer();
        return;
    case 9:
        memset(model.registers[f], 0, sizeof(model.registers[f]));
        for (unsigned i = 0; i < PCI_BAR_REGISTERS; i++)
            model_write(f, i, 0);
        model.memory[f] = model.io[f] = false;
        pci_bars_reset(&functions[current][f]);
        break;
    default:
        value = some_value(input);
        pci_bars_write(&functions[current][f], index, value);
        if (index < PCI_BAR_REGISTERS)
            model_write(f, index, value);
    }
    model_settle();
}

/* A state that a stranger wrote, loaded over whatever is there. */
static void load_anything(const uint8_t *data, size_t size)
{
    uint8_t state[PCI_BARS_STATE_BYTES] = {0};
    for (unsigned f = 0; f < FUNCTIONS; f++) {
        memcpy(state, data, size_min(size, sizeof(state)));
        for (unsigned i = 0; i < PCI_BAR_REGISTERS && f > 0; i++) { /* give it a chance */
            uint8_t sound[PCI_BARS_STATE_BYTES];
            pci_bars_save(&functions[current][f], sound);
            memcpy(state + i * 24 + 20, sound + i * 24 + 20, 4);
        }
        if (model.plugged[f])
            (void)pci_bars_load(&functions[current][f], state);
    }
    while (model.held-- > 0)
        pci_bar_engine_release(&engines[current]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.bytes = data, .left = size};
    memset(&model, 0, sizeof(model));
    memset(&port, 0, sizeof(port));
    memset(&gate, 0, sizeof(gate));
    port.port.class = &port_class;
    port.set_max = PCI_BAR_MOVES_MAX;
    current = 0;
    for (unsigned f = 0; f < FUNCTIONS; f++) {
        model.plugged[f] = true;
        for (unsigned i = 0; i < PCI_BAR_REGISTERS; i++)
            model_write(f, i, 0);
    }
    build(current);
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++) {
        step(&input);
        compare();
    }
    load_anything(data, size);
    return 0;
}
