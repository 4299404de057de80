/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The counter is the port's seconds and a distance, modulo 2^32. Whether it has met the match register is found out
 * when somebody looks: RTCRIS is set when the match lies among the seconds that have passed since the last look. When
 * the interrupt is let through, the port's timer is asked for the next meeting, so that somebody does look.
 *
 * Limits
 *
 * The counter always runs: RTCCR reads as 1. It is as long as the chip's, and goes round in 2106. When the host's clock
 * jumps back, the counter does; seconds that it counts once more can match once more only if they are the match.
 */
#include "devices/pl031/pl031.h"

#include <assert.h>
#include <errno.h>

#include "machine/bus_words.h"

/* Manual, table 3-1. */
enum {
    RTCDR = 0x000,
    RTCMR = 0x004,
    RTCLR = 0x008,
    RTCCR = 0x00c,
    RTCIMSC = 0x010,
    RTCRIS = 0x014,
    RTCMIS = 0x018,
    RTCICR = 0x01c,
    IDS_BEGIN = 0xfe0, /* RTCPeriphID0 to 3, RTCPCellID0 to 3 */
};

#define NS_PER_S UINT64_C(1000000000)

#define STATE_VERSION 1
#define STATE_BYTES 20

static_assert(STATE_BYTES + STATE_RECORD_HEADER_BYTES <= PL031_STATE_BYTES_MAX, "room for the record");

static uint64_t port_s(struct pl031 *pl031)
{
    return pl031->clock->class->now_ns(pl031->clock) / NS_PER_S;
}

/* RTCRIS up to @now, the counter. */
static void catch_up_to(struct pl031 *pl031, uint32_t now)
{
    uint32_t passed = now - pl031->seen_s;

    /* More than half way round is backwards. */
    if (passed <= INT32_MAX && pl031->match - pl031->seen_s - 1 < passed)
        pl031->raw = true;
    pl031->seen_s = now;
}

/* RTCRIS up to now; returns the counter. */
static uint32_t catch_up(struct pl031 *pl031)
{
    catch_up_to(pl031, (uint32_t)port_s(pl031) + pl031->offset_s);
    return pl031->seen_s;
}

/* Match or counter are new: do they meet in this very second? */
static void compare(struct pl031 *pl031)
{
    pl031->seen_s = (uint32_t)port_s(pl031) + pl031->offset_s;
    if (pl031->seen_s == pl031->match)
        pl031->raw = true;
}

static void tell(struct pl031 *pl031)
{
    struct clock_port *clock = pl031->clock;
    uint64_t now_s = port_s(pl031);
    uint32_t now = (uint32_t)now_s + pl031->offset_s;

    catch_up_to(pl031, now);
    irq_line_set(pl031->irq, pl031->raw && pl031->masked_in);
    if (!clock->class->set_alarm)
        return;
    if (pl031->raw || !pl031->masked_in) {
        clock->class->set_alarm(clock, CLOCK_PORT_NEVER);
        return;
    }
    /* This second has been looked at: the next meeting is at least one second, and at most a whole round, ahead. */
    uint64_t ahead_s = (uint64_t)(uint32_t)(pl031->match - now - 1) + 1;
    clock->class->set_alarm(clock, (now_s + ahead_s) * NS_PER_S);
}

static uint32_t read_register(struct pl031 *pl031, uint64_t offset)
{
    static const uint8_t ids[8] = {0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
    uint32_t now = catch_up(pl031);

    if (offset >= IDS_BEGIN)
        return ids[(offset - IDS_BEGIN) / 4 % ARRAY_SIZE(ids)];
    switch (offset) {
    case RTCDR:
        return now;
    case RTCMR:
        return pl031->match;
    case RTCLR:
        return pl031->load;
    case RTCCR:
        return 1;
    case RTCIMSC:
        return pl031->masked_in;
    case RTCRIS:
        return pl031->raw;
    case RTCMIS:
        return pl031->raw && pl031->masked_in;
    default:
        return 0;
    }
}

static void write_register(struct pl031 *pl031, uint64_t offset, uint32_t value)
{
    uint32_t now = catch_up(pl031);

    switch (offset) {
    case RTCMR:
        pl031->match = value;
        compare(pl031);
        break;
    case RTCLR:
        pl031->load = value;
        pl031->offset_s += value - now;
        compare(pl031);
        break;
    case RTCIMSC:
        pl031->masked_in = value & 1;
        break;
    case RTCICR:
        if (value & 1)
            pl031->raw = false;
        break;
    default:
        break;
    }
}

static uint32_t pl031_read_word(struct bus_device *device, uint64_t offset)
{
    struct pl031 *pl031 = container_of(device, struct pl031, device);
    bool before = pl031->raw;
    uint32_t value = read_register(pl031, offset);

    if (pl031->raw != before)
        tell(pl031);
    return value;
}

static void pl031_write_word(struct bus_device *device, uint64_t offset, uint32_t value)
{
    struct pl031 *pl031 = container_of(device, struct pl031, device);

    write_register(pl031, offset, value);
    tell(pl031);
}

static enum bus_result pl031_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    (void)size;
    return bus_words_read(device, offset, ret_value, pl031_read_word);
}

static enum bus_result pl031_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)size;
    return bus_words_write(device, offset, value, pl031_write_word);
}

static const struct bus_device_class pl031_class = {
    .name = "pl031",
    .read = pl031_read,
    .write = pl031_write,
};

void pl031_init(struct pl031 *pl031, struct clock_port *clock, struct irq_line *irq)
{
    *pl031 = (struct pl031){.device.class = &pl031_class, .clock = clock, .irq = irq};
    pl031->seen_s = (uint32_t)port_s(pl031);
}

void pl031_reset(struct pl031 *pl031)
{
    catch_up(pl031);
    pl031->match = 0;
    pl031->load = 0;
    pl031->masked_in = false;
    pl031->raw = false;
    tell(pl031);
}

void pl031_alarm(struct pl031 *pl031)
{
    catch_up(pl031);
    tell(pl031);
}

int pl031_save(const struct pl031 *pl031, struct state_writer *writer)
{
    uint8_t record[STATE_BYTES] = {0};

    put_le32(record, pl031->offset_s);
    put_le32(record + 4, pl031->load);
    put_le32(record + 8, pl031->match);
    put_le32(record + 12, pl031->seen_s);
    record[16] = pl031->masked_in;
    record[17] = pl031->raw; /* 2 bytes are free after it */
    return state_put(writer, PL031_STATE_TAG, STATE_VERSION, record, sizeof(record));
}

int pl031_load(struct pl031 *pl031, const struct state_record *record)
{
    const uint8_t *from = record->payload;

    if (record->version > STATE_VERSION)
        return -ENOTSUP;
    if (record->length != STATE_BYTES || from[16] > 1 || from[17] > 1)
        return -EBADMSG;
    pl031->offset_s = get_le32(from);
    pl031->load = get_le32(from + 4);
    pl031->match = get_le32(from + 8);
    pl031->seen_s = get_le32(from + 12);
    pl031->masked_in = from[16] != 0;
    pl031->raw = from[17] != 0;
    catch_up(pl031);
    tell(pl031);
    return 0;
}
