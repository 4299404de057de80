/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * What the guest writes goes to the port at once. What the port refuses waits in the transmit FIFO, UARTFR says so, and
 * pl011_output_ready goes on with it; meanwhile the port is not asked. Input is taken as far as the receive FIFO has
 * room, and only while the receiver is enabled, so nothing from outside is ever lost; once the guest has read all of
 * it, the port hears that there is room.
 *
 * Interrupts are events that UARTRIS keeps (manual, 2.8): the receive interrupt comes when the FIFO reaches its trigger
 * level, the receive time-out when the line falls silent with bytes in it, which is at the end of each input, and the
 * transmit interrupt when a byte leaves the FIFO and no more than its trigger level remains. They go when the cause
 * goes, or by UARTICR. After each access the level of UARTINTR is set to UARTMIS.
 *
 * Limits
 *
 * No timing, no word lengths but 8 bits, no parity, framing or break errors from outside; a break that the guest sends
 * goes nowhere; no IrDA, no DMA: their registers are kept. Nothing is plugged into the modem lines: CTS, DSR and DCD
 * are on, RI is off, but for loopback; hardware flow control has no effect. The baud rate counts at once, not only with
 * the next write of UARTLCR_H. A disabled UART keeps what was written, as on silicon; but this one is enabled after
 * power-on, which firmware would have done before a kernel's early console.
 */
#include "devices/pl011/pl011.h"

#include <assert.h>
#include <errno.h>

#include "machine/bus_words.h"

/* Manual, table 3-1. */
enum {
    UARTDR = 0x000,
    UARTRSR = 0x004, /* written: UARTECR */
    UARTFR = 0x018,
    UARTILPR = 0x020,
    UARTIBRD = 0x024,
    UARTFBRD = 0x028,
    UARTLCR_H = 0x02c,
    UARTCR = 0x030,
    UARTIFLS = 0x034,
    UARTIMSC = 0x038,
    UARTRIS = 0x03c,
    UARTMIS = 0x040,
    UARTICR = 0x044,
    UARTDMACR = 0x048,
    IDS_BEGIN = 0xfe0, /* UARTPeriphID0 to 3, UARTPCellID0 to 3 */
};

#define DR_OE (1u << 11)
#define RSR_OE (1u << 3)

#define FR_CTS (1u << 0)
#define FR_DSR (1u << 1)
#define FR_DCD (1u << 2)
#define FR_BUSY (1u << 3)
#define FR_RXFE (1u << 4)
#define FR_TXFF (1u << 5)
#define FR_RXFF (1u << 6)
#define FR_TXFE (1u << 7)
#define FR_RI (1u << 8)

#define LCR_H_FEN (1u << 4)

#define CR_UARTEN (1u << 0)
#define CR_LBE (1u << 7)
#define CR_TXE (1u << 8)
#define CR_RXE (1u << 9)
#define CR_DTR (1u << 10)
#define CR_RTS (1u << 11)
#define CR_OUT1 (1u << 12)
#define CR_OUT2 (1u << 13)
#define CR_ALL 0xff87u
#define CR_AFTER_RESET (CR_RXE | CR_TXE | CR_UARTEN) /* the last: see Limits */

#define IFLS_ALL 0x3fu
#define IFLS_AFTER_RESET 0x12u /* half full, both */
#define DMACR_ALL 0x07u
#define FBRD_ALL 0x3fu

#define INTERRUPT_RI (1u << 0)
#define INTERRUPT_CTS (1u << 1)
#define INTERRUPT_DCD (1u << 2)
#define INTERRUPT_DSR (1u << 3)
#define INTERRUPT_RX (1u << 4)
#define INTERRUPT_TX (1u << 5)
#define INTERRUPT_RT (1u << 6)
#define INTERRUPT_OE (1u << 10)
#define INTERRUPTS_ALL 0x7ffu

#define STATE_VERSION 1
#define STATE_BYTES (16 + 2 * (1 + PL011_FIFO_BYTES))

static_assert(STATE_BYTES + STATE_RECORD_HEADER_BYTES <= PL011_STATE_BYTES_MAX, "room for the record");
static_assert(PL011_FIFO_BYTES <= UART_FIFO_BYTES, "room for the FIFO");

static bool has_fifos(const struct pl011 *pl011)
{
    return (pl011->lcr_h & LCR_H_FEN) != 0;
}

static unsigned depth(const struct pl011 *pl011)
{
    return has_fifos(pl011) ? PL011_FIFO_BYTES : 1;
}

static bool has_all(const struct pl011 *pl011, unsigned bits)
{
    return (pl011->cr & bits) == bits;
}

static bool is_loop(const struct pl011 *pl011)
{
    return has_all(pl011, CR_LBE);
}

/* 1/8, 1/4, 1/2, 3/4, 7/8 of the FIFO; the other codes are reserved. */
static unsigned trigger_level(unsigned code)
{
    static const uint8_t eighths[8] = {1, 2, 4, 6, 7, 7, 7, 7};

    return eighths[code % 8] * PL011_FIFO_BYTES / 8u;
}

static unsigned receive_trigger(const struct pl011 *pl011)
{
    return has_fifos(pl011) ? trigger_level(pl011->ifls >> 3) : 1;
}

static unsigned transmit_trigger(const struct pl011 *pl011)
{
    return has_fifos(pl011) ? trigger_level(pl011->ifls) : 0;
}

static void set_line(struct pl011 *pl011)
{
    irq_line_set(pl011->irq, (pl011->ris & pl011->imsc) != 0);
}

/* Is outside connected to the receiver? */
static bool is_listening(const struct pl011 *pl011)
{
    return has_all(pl011, CR_UARTEN | CR_RXE) && !is_loop(pl011);
}

/* After each change: what the world is to know of it. */
static void tell(struct pl011 *pl011)
{
    set_line(pl011);
    if (!pl011->input_was_refused || pl011->receive.count > 0 || !is_listening(pl011))
        return;
    pl011->input_was_refused = false;
    if (pl011->port->class->input_room)
        pl011->port->class->input_room(pl011->port);
}

static void raise(struct pl011 *pl011, unsigned interrupts)
{
    pl011->ris |= (uint16_t)interrupts;
}

static void lower(struct pl011 *pl011, unsigned interrupts)
{
    pl011->ris &= (uint16_t)~interrupts;
}

/* A byte comes in; where there is no room it is lost, and what was there stays (manual, 3.3.1). */
static void receive(struct pl011 *pl011, uint8_t byte)
{
    if (pl011->receive.count >= depth(pl011)) {
        pl011->overrun = true;
        pl011->overrun_in_data = true;
        raise(pl011, INTERRUPT_OE);
        return;
    }
    pl011->overrun_in_data = false;
    uart_fifo_push(&pl011->receive, depth(pl011), byte);
    if (pl011->receive.count >= receive_trigger(pl011))
        raise(pl011, INTERRUPT_RX);
}

/* The line is silent after a byte. */
static void fall_silent(struct pl011 *pl011)
{
    if (has_fifos(pl011) && pl011->receive.count > 0)
        raise(pl011, INTERRUPT_RT);
}

static void send(struct pl011 *pl011)
{
    struct uart_fifo *fifo = &pl011->transmit;
    size_t taken = fifo->count;

    if (taken == 0 || !has_all(pl011, CR_UARTEN | CR_TXE))
        return;
    if (is_loop(pl011)) {
        for (size_t i = 0; i < taken && has_all(pl011, CR_RXE); i++)
            receive(pl011, fifo->bytes[i]);
        fall_silent(pl011);
    } else {
        taken = pl011->port->class->output(pl011->port, fifo->bytes, fifo->count);
    }
    uart_fifo_drop(fifo, taken);
    pl011->output_was_refused = fifo->count > 0;
    if (taken > 0 && fifo->count <= transmit_trigger(pl011))
        raise(pl011, INTERRUPT_TX);
}

static void write_data(struct pl011 *pl011, uint8_t byte)
{
    if (!uart_fifo_push(&pl011->transmit, depth(pl011), byte))
        pl011->lost_total++;
    if (pl011->transmit.count > transmit_trigger(pl011))
        lower(pl011, INTERRUPT_TX);
    if (!pl011->output_was_refused)
        send(pl011);
}

static uint32_t read_data(struct pl011 *pl011)
{
    uint32_t data = uart_fifo_pop(&pl011->receive) | (pl011->overrun_in_data ? DR_OE : 0);

    if (pl011->receive.count < receive_trigger(pl011))
        lower(pl011, INTERRUPT_RX);
    if (pl011->receive.count == 0)
        lower(pl011, INTERRUPT_RT);
    return data;
}

/* The modem's lines as UARTFR has them. */
static unsigned modem_lines(const struct pl011 *pl011)
{
    unsigned cr = pl011->cr;

    if (!is_loop(pl011))
        return FR_CTS | FR_DSR | FR_DCD;
    return (cr & CR_RTS ? FR_CTS : 0) | (cr & CR_DTR ? FR_DSR : 0) | (cr & CR_OUT1 ? FR_DCD : 0) |
           (cr & CR_OUT2 ? FR_RI : 0);
}

static uint32_t read_flags(const struct pl011 *pl011)
{
    unsigned received = pl011->receive.count, waiting = pl011->transmit.count;

    return modem_lines(pl011) | (waiting > 0 ? FR_BUSY : FR_TXFE) | (received == 0 ? FR_RXFE : 0) |
           (waiting >= depth(pl011) ? FR_TXFF : 0) | (received >= depth(pl011) ? FR_RXFF : 0);
}

static void write_control(struct pl011 *pl011, uint32_t value)
{
    unsigned before = modem_lines(pl011);

    pl011->cr = (uint16_t)(value & CR_ALL);
    unsigned changes = before ^ modem_lines(pl011);
    raise(pl011, (changes & FR_RI ? INTERRUPT_RI : 0) | (changes & FR_CTS ? INTERRUPT_CTS : 0) |
                     (changes & FR_DCD ? INTERRUPT_DCD : 0) | (changes & FR_DSR ? INTERRUPT_DSR : 0));
    if (!pl011->output_was_refused || is_loop(pl011))
        send(pl011); /* it may have been disabled with bytes in the FIFO */
}

/* FIFOs that are switched off or on lose what is in them (manual, 3.3.8). */
static void write_line_control(struct pl011 *pl011, uint32_t value)
{
    if ((value ^ pl011->lcr_h) & LCR_H_FEN) {
        pl011->receive.count = 0;
        pl011->transmit.count = 0;
        pl011->output_was_refused = false;
        lower(pl011, INTERRUPT_RX | INTERRUPT_RT);
    }
    pl011->lcr_h = (uint8_t)value;
}

static uint32_t read_register(struct pl011 *pl011, uint64_t offset)
{
    static const uint8_t ids[8] = {0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1}; /* revision 3: r1p5 */

    if (offset >= IDS_BEGIN)
        return ids[(offset - IDS_BEGIN) / 4 % ARRAY_SIZE(ids)];
    switch (offset) {
    case UARTDR:
        return read_data(pl011);
    case UARTRSR:
        return pl011->overrun ? RSR_OE : 0;
    case UARTFR:
        return read_flags(pl011);
    case UARTILPR:
        return pl011->ilpr;
    case UARTIBRD:
        return pl011->ibrd;
    case UARTFBRD:
        return pl011->fbrd;
    case UARTLCR_H:
        return pl011->lcr_h;
    case UARTCR:
        return pl011->cr;
    case UARTIFLS:
        return pl011->ifls;
    case UARTIMSC:
        return pl011->imsc;
    case UARTRIS:
        return pl011->ris;
    case UARTMIS:
        return pl011->ris & pl011->imsc;
    case UARTDMACR:
        return pl011->dmacr;
    default:
        return 0;
    }
}

static void write_register(struct pl011 *pl011, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case UARTDR:
        write_data(pl011, (uint8_t)value);
        break;
    case UARTRSR:
        pl011->overrun = false;
        break;
    case UARTILPR:
        pl011->ilpr = (uint8_t)value;
        break;
    case UARTIBRD:
        pl011->ibrd = (uint16_t)value;
        break;
    case UARTFBRD:
        pl011->fbrd = value & FBRD_ALL;
        break;
    case UARTLCR_H:
        write_line_control(pl011, value);
        break;
    case UARTCR:
        write_control(pl011, value);
        break;
    case UARTIFLS:
        pl011->ifls = value & IFLS_ALL;
        break;
    case UARTIMSC:
        pl011->imsc = value & INTERRUPTS_ALL;
        break;
    case UARTICR:
        lower(pl011, value & INTERRUPTS_ALL);
        break;
    case UARTDMACR:
        pl011->dmacr = value & DMACR_ALL;
        break;
    default:
        break;
    }
}

static uint32_t pl011_read_word(struct bus_device *device, uint64_t offset)
{
    struct pl011 *pl011 = container_of(device, struct pl011, device);
    uint32_t value = read_register(pl011, offset);

    tell(pl011);
    return value;
}

static void pl011_write_word(struct bus_device *device, uint64_t offset, uint32_t value)
{
    struct pl011 *pl011 = container_of(device, struct pl011, device);

    write_register(pl011, offset, value);
    tell(pl011);
}

static enum bus_result pl011_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    (void)size;
    return bus_words_read(device, offset, ret_value, pl011_read_word);
}

static enum bus_result pl011_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)size;
    return bus_words_write(device, offset, value, pl011_write_word);
}

static const struct bus_device_class pl011_class = {
    .name = "pl011",
    .read = pl011_read,
    .write = pl011_write,
};

void pl011_init(struct pl011 *pl011, struct uart_port *port, struct irq_line *irq)
{
    *pl011 = (struct pl011){
        .device.class = &pl011_class,
        .port = port,
        .irq = irq,
        .cr = CR_AFTER_RESET,
        .ifls = IFLS_AFTER_RESET,
    };
}

void pl011_reset(struct pl011 *pl011)
{
    bool owed = pl011->input_was_refused;
    uint64_t lost_total = pl011->lost_total;

    pl011_init(pl011, pl011->port, pl011->irq);
    pl011->input_was_refused = owed;
    pl011->lost_total = lost_total;
    tell(pl011);
}

size_t pl011_input(struct pl011 *pl011, const uint8_t *bytes, size_t count)
{
    size_t room = is_listening(pl011) ? depth(pl011) - pl011->receive.count : 0;
    size_t taken = size_min(room, count);

    for (size_t i = 0; i < taken; i++)
        receive(pl011, bytes[i]);
    if (taken > 0)
        fall_silent(pl011);
    pl011->input_was_refused = taken < count;
    set_line(pl011);
    return taken;
}

void pl011_output_ready(struct pl011 *pl011)
{
    pl011->output_was_refused = false;
    send(pl011);
    set_line(pl011);
}

int pl011_save(const struct pl011 *pl011, struct state_writer *writer)
{
    uint8_t record[STATE_BYTES];
    uint8_t *fifos = record + 16;

    put_le16(record, pl011->cr);
    put_le16(record + 2, pl011->ibrd);
    put_le16(record + 4, pl011->imsc);
    put_le16(record + 6, pl011->ris);
    record[8] = pl011->fbrd;
    record[9] = pl011->lcr_h;
    record[10] = pl011->ifls;
    record[11] = pl011->dmacr;
    record[12] = pl011->ilpr;
    record[13] = pl011->overrun;
    record[14] = pl011->overrun_in_data;
    record[15] = 0;
    fifos[0] = pl011->receive.count;
    memcpy(fifos + 1, pl011->receive.bytes, PL011_FIFO_BYTES);
    fifos[1 + PL011_FIFO_BYTES] = pl011->transmit.count;
    memcpy(fifos + 2 + PL011_FIFO_BYTES, pl011->transmit.bytes, PL011_FIFO_BYTES);
    return state_put(writer, PL011_STATE_TAG, STATE_VERSION, record, sizeof(record));
}

static bool is_possible(const struct pl011 *pl011)
{
    return (pl011->cr & ~CR_ALL) == 0 && (pl011->imsc & ~INTERRUPTS_ALL) == 0 && (pl011->ris & ~INTERRUPTS_ALL) == 0 &&
           (pl011->fbrd & ~FBRD_ALL) == 0 && (pl011->ifls & ~IFLS_ALL) == 0 && (pl011->dmacr & ~DMACR_ALL) == 0 &&
           pl011->receive.count <= depth(pl011) && pl011->transmit.count <= depth(pl011);
}

int pl011_load(struct pl011 *pl011, const struct state_record *record)
{
    const uint8_t *from = record->payload, *fifos = from + 16;
    struct pl011 loaded = *pl011;

    if (record->version > STATE_VERSION)
        return -ENOTSUP;
    if (record->length != STATE_BYTES || from[13] > 1 || from[14] > 1)
        return -EBADMSG;
    loaded.cr = get_le16(from);
    loaded.ibrd = get_le16(from + 2);
    loaded.imsc = get_le16(from + 4);
    loaded.ris = get_le16(from + 6);
    loaded.fbrd = from[8];
    loaded.lcr_h = from[9];
    loaded.ifls = from[10];
    loaded.dmacr = from[11];
    loaded.ilpr = from[12];
    loaded.overrun = from[13] != 0;
    loaded.overrun_in_data = from[14] != 0;
    loaded.receive.count = fifos[0];
    memcpy(loaded.receive.bytes, fifos + 1, PL011_FIFO_BYTES);
    loaded.transmit.count = fifos[1 + PL011_FIFO_BYTES];
    memcpy(loaded.transmit.bytes, fifos + 2 + PL011_FIFO_BYTES, PL011_FIFO_BYTES);
    if (!is_possible(&loaded))
        return -EBADMSG;
    *pl011 = loaded;
    send(pl011);
    tell(pl011);
    return 0;
}
