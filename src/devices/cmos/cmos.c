/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * While the clock runs, its registers of time are made from the port's time and a distance whenever they are read. It
 * stands while register B has SET or the divider is held in reset (register A, DV2 and DV1); then the registers are
 * memory, filled with the time at which it stopped. When it goes on, what they say becomes a new distance. A driver
 * that writes a register without stopping the clock gets the same, at once.
 *
 * Flags of register C are found out when somebody looks: seconds have passed since the last look, and among them were
 * the alarm's or not. When an interrupt for them is enabled, the port's timer is asked for the next such second, so
 * that somebody does look. Register A says that an update is in progress during the last 244 us of each second: who has
 * seen that it is not, has that long to read (data sheet, "Update cycle").
 *
 * Limits
 *
 * No periodic interrupt and no square wave: PIE, SQWE and the rate are kept and mean nothing, and drivers of today use
 * other timers. No daylight saving (DSE). The clock counts whole seconds of the port: one that goes on has its next
 * second when the port has. The day of the week is that of the date, whatever was written. Without a timer of the port
 * the flags work and the interrupts do not.
 */
#include "devices/cmos/cmos.h"

#include <assert.h>
#include <errno.h>

#include "devices/cmos/cmos_time.h"
#include "machine/bus_bytes.h"

enum {
    REGISTER_SECONDS = 0x00,
    REGISTER_SECONDS_ALARM = 0x01,
    REGISTER_MINUTES = 0x02,
    REGISTER_MINUTES_ALARM = 0x03,
    REGISTER_HOURS = 0x04,
    REGISTER_HOURS_ALARM = 0x05,
    REGISTER_WEEKDAY = 0x06,
    REGISTER_DAY = 0x07,
    REGISTER_MONTH = 0x08,
    REGISTER_YEAR = 0x09,
    REGISTER_A = 0x0a,
    REGISTER_B = 0x0b,
    REGISTER_C = 0x0c,
    REGISTER_D = 0x0d,
};

#define A_UPDATING (1u << 7)  /* UIP */
#define A_DIVIDER_RESET 0x60u /* DV2 and DV1: both set, the clock stands */
#define A_AFTER_RESET 0x26u   /* 32,768 Hz, as PCs have it */
#define B_SET (1u << 7)
#define B_PERIODIC (1u << 6) /* PIE */
#define B_ALARM (1u << 5)    /* AIE */
#define B_UPDATE (1u << 4)   /* UIE */
#define B_SQUARE (1u << 3)   /* SQWE */
#define B_BINARY (1u << 2)   /* DM */
#define B_24_HOURS (1u << 1)
#define C_INTERRUPT (1u << 7) /* IRQF */
#define C_ALARM (1u << 5)     /* AF */
#define C_UPDATE (1u << 4)    /* UF */
#define D_VALID (1u << 7)     /* VRT */

#define NS_PER_S INT64_C(1000000000)
#define UPDATE_NS 244000 /* before each second */

/* The guest's years are 0 to 9999, the port's 64 bits of ns end in 2554: a larger distance is nobody's. */
#define OFFSET_S_MAX (INT64_C(10000) * 366 * 86400)

#define STATE_VERSION 1
#define STATE_BYTES (20 + CMOS_RAM_BYTES)

static_assert(STATE_BYTES + STATE_RECORD_HEADER_BYTES <= CMOS_STATE_BYTES_MAX, "room for the record");

static struct cmos *cmos_of(struct bus_device *device)
{
    return container_of(device, struct cmos, device);
}

static uint64_t port_ns(struct cmos *cmos)
{
    return cmos->clock->class->now_ns(cmos->clock);
}

/* The guest's second, if its clock ran. */
static int64_t guest_s(struct cmos *cmos)
{
    return (int64_t)(port_ns(cmos) / (uint64_t)NS_PER_S) + cmos->offset_s;
}

static bool stands(const struct cmos *cmos)
{
    return (cmos->ram[REGISTER_B] & B_SET) || (cmos->ram[REGISTER_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET;
}

static bool is_time(uint8_t index)
{
    switch (index) {
    case REGISTER_SECONDS:
    case REGISTER_MINUTES:
    case REGISTER_HOURS:
    case REGISTER_WEEKDAY:
    case REGISTER_DAY:
    case REGISTER_MONTH:
    case REGISTER_YEAR:
    case CMOS_CENTURY:
        return true;
    default:
        return false;
    }
}

static bool is_binary(const struct cmos *cmos)
{
    return (cmos->ram[REGISTER_B] & B_BINARY) != 0;
}

static bool has_24_hours(const struct cmos *cmos)
{
    return (cmos->ram[REGISTER_B] & B_24_HOURS) != 0;
}

/* The running clock's time, into its registers. */
static void show(struct cmos *cmos)
{
    struct cmos_time time = cmos_time_from_seconds(guest_s(cmos));
    bool binary = is_binary(cmos);
    uint8_t *ram = cmos->ram;

    ram[REGISTER_SECONDS] = cmos_time_encode(time.second, binary);
    ram[REGISTER_MINUTES] = cmos_time_encode(time.minute, binary);
    ram[REGISTER_HOURS] = cmos_time_encode_hour(time.hour, binary, has_24_hours(cmos));
    ram[REGISTER_WEEKDAY] = cmos_time_encode(time.weekday, binary);
    ram[REGISTER_DAY] = cmos_time_encode(time.day, binary);
    ram[REGISTER_MONTH] = cmos_time_encode(time.month, binary);
    ram[REGISTER_YEAR] = cmos_time_encode(time.year % 100, binary);
    ram[CMOS_CENTURY] = cmos_time_encode(time.year / 100 % 100, binary);
}

/* What the registers say is the time now. */
static void adopt(struct cmos *cmos)
{
    bool binary = is_binary(cmos);
    const uint8_t *ram = cmos->ram;
    struct cmos_time time = {
        .second = cmos_time_decode(ram[REGISTER_SECONDS], binary),
        .minute = cmos_time_decode(ram[REGISTER_MINUTES], binary),
        .hour = cmos_time_decode_hour(ram[REGISTER_HOURS], binary, has_24_hours(cmos)),
        .day = cmos_time_decode(ram[REGISTER_DAY], binary),
        .month = cmos_time_decode(ram[REGISTER_MONTH], binary),
        .year = cmos_time_decode(ram[CMOS_CENTURY], binary) * 100 + cmos_time_decode(ram[REGISTER_YEAR], binary),
    };
    int64_t seconds = cmos_time_to_seconds(&time);

    cmos->offset_s += seconds - guest_s(cmos);
    cmos->seen_s = seconds;
}

/* The first second after @after at which the alarm goes off. False: what it is set to never comes. */
static bool next_alarm(const struct cmos *cmos, int64_t after, int64_t *ret_second)
{
    const uint8_t *ram = cmos->ram;
    bool binary = is_binary(cmos);
    struct cmos_alarm alarm = {
        .hour = cmos_time_decode_hour(ram[REGISTER_HOURS_ALARM], binary, has_24_hours(cmos)),
        .minute = cmos_time_decode(ram[REGISTER_MINUTES_ALARM], binary),
        .second = cmos_time_decode(ram[REGISTER_SECONDS_ALARM], binary),
        .any_hour = cmos_time_is_any(ram[REGISTER_HOURS_ALARM]),
        .any_minute = cmos_time_is_any(ram[REGISTER_MINUTES_ALARM]),
        .any_second = cmos_time_is_any(ram[REGISTER_SECONDS_ALARM]),
    };

    return cmos_time_next_alarm(&alarm, after, ret_second);
}

/* Flags of register C, up to now. */
static void catch_up(struct cmos *cmos)
{
    int64_t now, alarm;

    if (stands(cmos))
        return;
    now = guest_s(cmos);
    if (now > cmos->seen_s) {
        cmos->ram[REGISTER_C] |= C_UPDATE;
        if (next_alarm(cmos, cmos->seen_s, &alarm) && alarm <= now)
            cmos->ram[REGISTER_C] |= C_ALARM;
    }
    cmos->seen_s = now; /* the port may have gone back */
}

/* The second for which the guest wants an interrupt; false: for none. */
static bool next_interrupt(const struct cmos *cmos, int64_t *ret_second)
{
    uint8_t enabled = cmos->ram[REGISTER_B];

    if (stands(cmos) || (cmos->ram[REGISTER_C] & C_INTERRUPT))
        return false;
    if (enabled & B_UPDATE) {
        *ret_second = cmos->seen_s + 1;
        return true;
    }
    return (enabled & B_ALARM) && next_alarm(cmos, cmos->seen_s, ret_second);
}

/* After each change: what the world is to know of it. */
static void tell(struct cmos *cmos)
{
    uint8_t *flags = &cmos->ram[REGISTER_C];
    struct clock_port *clock = cmos->clock;
    int64_t second;

    *flags &= (uint8_t)~C_INTERRUPT;
    if (*flags & cmos->ram[REGISTER_B] & (C_ALARM | C_UPDATE)) /* enabled by the same bits */
        *flags |= C_INTERRUPT;
    irq_line_set(cmos->irq, (*flags & C_INTERRUPT) != 0);
    if (!clock->class->set_alarm)
        return;
    if (!next_interrupt(cmos, &second)) {
        clock->class->set_alarm(clock, CLOCK_PORT_NEVER);
        return;
    }
    int64_t port_second = second - cmos->offset_s;
    clock->class->set_alarm(clock, port_second <= 0 ? 0 : (uint64_t)port_second * (uint64_t)NS_PER_S);
}

static void write_control(struct cmos *cmos, uint8_t index, uint8_t value)
{
    bool stood = stands(cmos);

    if (!stood)
        show(cmos);
    if (index == REGISTER_A)
        value &= (uint8_t)~A_UPDATING;
    else if (value & ~cmos->ram[REGISTER_B] & B_SET)
        value &= (uint8_t)~B_UPDATE; /* SET clears it (data sheet, register B) */
    cmos->ram[index] = value;
    if (stood && !stands(cmos))
        adopt(cmos);
}

static void write_time(struct cmos *cmos, uint8_t index, uint8_t value)
{
    if (stands(cmos)) {
        cmos->ram[index] = value;
        return;
    }
    show(cmos);
    cmos->ram[index] = value;
    adopt(cmos);
}

static void write_data(struct cmos *cmos, uint8_t value)
{
    uint8_t index = cmos->index;

    catch_up(cmos);
    if (is_time(index))
        write_time(cmos, index, value);
    else if (index == REGISTER_A || index == REGISTER_B)
        write_control(cmos, index, value);
    else if (index != REGISTER_C && index != REGISTER_D)
        cmos->ram[index] = value;
    else
        return;
    tell(cmos);
}

static uint8_t read_flags(struct cmos *cmos)
{
    uint8_t flags;

    catch_up(cmos);
    tell(cmos);
    flags = cmos->ram[REGISTER_C];
    cmos->ram[REGISTER_C] = 0;
    tell(cmos);
    return flags;
}

static bool is_updating(struct cmos *cmos)
{
    return !stands(cmos) && port_ns(cmos) % (uint64_t)NS_PER_S >= (uint64_t)NS_PER_S - UPDATE_NS;
}

static uint8_t read_data(struct cmos *cmos)
{
    uint8_t index = cmos->index;

    if (index == REGISTER_A)
        return cmos->ram[index] | (is_updating(cmos) ? A_UPDATING : 0);
    if (index == REGISTER_C)
        return read_flags(cmos);
    if (index == REGISTER_D)
        return D_VALID;
    if (is_time(index) && !stands(cmos))
        show(cmos);
    return cmos->ram[index];
}

static uint8_t cmos_read_byte(struct bus_device *device, uint64_t offset)
{
    return offset == 0 ? 0xff : read_data(cmos_of(device)); /* the index is for writing alone */
}

static void cmos_write_byte(struct bus_device *device, uint64_t offset, uint8_t value)
{
    if (offset == 0)
        cmos_of(device)->index = value % CMOS_RAM_BYTES; /* bit 7 masks NMI, which we have none of */
    else
        write_data(cmos_of(device), value);
}

static enum bus_result cmos_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    return bus_bytes_read(device, offset, size, ret_value, cmos_read_byte);
}

static enum bus_result cmos_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    return bus_bytes_write(device, offset, size, value, cmos_write_byte);
}

static const struct bus_device_class cmos_class = {
    .name = "cmos",
    .read = cmos_read,
    .write = cmos_write,
};

void cmos_init(struct cmos *cmos, struct clock_port *clock, struct irq_line *irq)
{
    *cmos = (struct cmos){
        .device.class = &cmos_class,
        .clock = clock,
        .irq = irq,
        .ram[REGISTER_A] = A_AFTER_RESET,
        .ram[REGISTER_B] = B_24_HOURS,
    };
    cmos->seen_s = guest_s(cmos);
}

void cmos_reset(struct cmos *cmos)
{
    catch_up(cmos);
    cmos->ram[REGISTER_B] &= (uint8_t) ~(B_PERIODIC | B_ALARM | B_UPDATE | B_SQUARE);
    cmos->ram[REGISTER_C] = 0;
    tell(cmos);
}

void cmos_alarm(struct cmos *cmos)
{
    catch_up(cmos);
    tell(cmos);
}

int cmos_save(const struct cmos *cmos, struct state_writer *writer)
{
    uint8_t record[STATE_BYTES] = {cmos->index};

    put_le64(record + 4, (uint64_t)cmos->offset_s);
    put_le64(record + 12, (uint64_t)cmos->seen_s);
    memcpy(record + 20, cmos->ram, CMOS_RAM_BYTES);
    return state_put(writer, CMOS_STATE_TAG, STATE_VERSION, record, sizeof(record));
}

static bool is_within(int64_t seconds, int64_t limit)
{
    return seconds <= limit && seconds >= -limit;
}

int cmos_load(struct cmos *cmos, const struct state_record *record)
{
    const uint8_t *from = record->payload;

    if (record->version > STATE_VERSION)
        return -ENOTSUP;
    if (record->length != STATE_BYTES || from[0] >= CMOS_RAM_BYTES || (from[20 + REGISTER_A] & A_UPDATING) ||
        !is_within((int64_t)get_le64(from + 4), OFFSET_S_MAX) ||
        !is_within((int64_t)get_le64(from + 12), 2 * OFFSET_S_MAX))
        return -EBADMSG;
    cmos->index = from[0];
    cmos->offset_s = (int64_t)get_le64(from + 4);
    cmos->seen_s = (int64_t)get_le64(from + 12);
    memcpy(cmos->ram, from + 20, CMOS_RAM_BYTES);
    cmos->ram[REGISTER_C] &= C_INTERRUPT | C_ALARM | C_UPDATE;
    catch_up(cmos);
    tell(cmos);
    return 0;
}
