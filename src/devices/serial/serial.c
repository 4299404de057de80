/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * What the guest writes goes to the port at once. What the port refuses waits in the transmitter's FIFO, LSR says that
 * it is not empty, and serial_output_ready goes on with it; meanwhile the port is not asked. Input is taken as far as
 * the receiver's FIFO has room, so nothing from outside is ever lost; once the guest has read all of it, the port hears
 * that there is room.
 *
 * IIR is made from state each time it is wanted, and after each access the interrupt's level is set to it. A write to
 * THR first takes back the interrupt that THR was empty, and only then sends, so that on an edge-triggered input each
 * byte that was sent is an edge of its own, as with a chip that takes time.
 *
 * With FIFOs, bytes below the trigger level wait on a real chip until the line was quiet for four characters. Here the
 * line is quiet at once: they are reported at once, as the character time-out that they are.
 *
 * Limits
 *
 * No timing, no word lengths but 8 bits, no parity, framing or break from outside; a break that the guest sends goes
 * nowhere. Nothing is plugged into the modem lines: CTS, DSR and DCD are on, RI is off, but for loopback. OUT2 does not
 * gate the interrupt, as boards of PCs have it: it is a level for whoever listens. DMA mode is kept and means nothing.
 */
#include "devices/serial/serial.h"

#include <assert.h>
#include <errno.h>

#include "machine/bus_bytes.h"

enum {
    REGISTER_DATA = 0, /* RBR, THR; with DLAB: DLL */
    REGISTER_IER = 1,  /* with DLAB: DLM */
    REGISTER_IIR = 2,  /* written: FCR */
    REGISTER_LCR = 3,
    REGISTER_MCR = 4,
    REGISTER_LSR = 5,
    REGISTER_MSR = 6,
    REGISTER_SCR = 7,
};

#define IER_RECEIVED (1u << 0) /* ERBFI */
#define IER_EMPTY (1u << 1)    /* ETBEI */
#define IER_LINE (1u << 2)     /* ELSI */
#define IER_MODEM (1u << 3)    /* EDSSI */
#define IER_ALL 0x0fu

/* Data sheet, table IV: by falling priority. */
#define IIR_LINE 0x06u
#define IIR_RECEIVED 0x04u
#define IIR_TIMEOUT 0x0cu
#define IIR_EMPTY 0x02u
#define IIR_MODEM 0x00u
#define IIR_NONE 0x01u
#define IIR_FIFOS 0xc0u

#define FCR_ENABLE (1u << 0)
#define FCR_CLEAR_RECEIVE (1u << 1)
#define FCR_CLEAR_TRANSMIT (1u << 2)
#define FCR_KEPT 0xc9u /* enable, DMA mode, trigger */

#define LCR_DLAB (1u << 7)

#define MCR_DTR (1u << 0)
#define MCR_RTS (1u << 1)
#define MCR_OUT1 (1u << 2)
#define MCR_OUT2 (1u << 3)
#define MCR_LOOP (1u << 4)
#define MCR_ALL 0x1fu

#define LSR_READY (1u << 0)
#define LSR_OVERRUN (1u << 1)
#define LSR_EMPTY 0x60u /* THR and the transmitter */

#define MSR_CTS (1u << 4)
#define MSR_DSR (1u << 5)
#define MSR_RI (1u << 6)
#define MSR_DCD (1u << 7)
#define MSR_DELTAS 0x0fu

#define DIVISOR_9600 12u /* after power-on, as firmware leaves it; the data sheet leaves it open */

#define STATE_VERSION 1
#define STATE_BYTES (12 + 2 * (1 + SERIAL_FIFO_BYTES))

static_assert(STATE_BYTES + STATE_RECORD_HEADER_BYTES <= SERIAL_STATE_BYTES_MAX, "room for the record");
static_assert(SERIAL_FIFO_BYTES <= UART_FIFO_BYTES, "room for the FIFO");

static struct serial *serial_of(struct bus_device *device)
{
    return container_of(device, struct serial, device);
}

static bool has_fifos(const struct serial *serial)
{
    return (serial->fifo_control & FCR_ENABLE) != 0;
}

static unsigned depth(const struct serial *serial)
{
    return has_fifos(serial) ? SERIAL_FIFO_BYTES : 1;
}

static bool is_loop(const struct serial *serial)
{
    return (serial->modem_control & MCR_LOOP) != 0;
}

static unsigned trigger_level(const struct serial *serial)
{
    static const uint8_t levels[4] = {1, 4, 8, 14};

    return has_fifos(serial) ? levels[serial->fifo_control >> 6] : 1;
}

static uint8_t interrupt_of(const struct serial *serial)
{
    if ((serial->interrupt_enable & IER_LINE) && serial->overrun)
        return IIR_LINE;
    if ((serial->interrupt_enable & IER_RECEIVED) && serial->receive.count > 0)
        return serial->receive.count >= trigger_level(serial) ? IIR_RECEIVED : IIR_TIMEOUT;
    if ((serial->interrupt_enable & IER_EMPTY) && serial->transmit_interrupt)
        return IIR_EMPTY;
    if ((serial->interrupt_enable & IER_MODEM) && serial->modem_deltas)
        return IIR_MODEM;
    return IIR_NONE;
}

static void set_line(struct serial *serial)
{
    irq_line_set(serial->irq, interrupt_of(serial) != IIR_NONE);
}

/* After each change: what the world is to know of it. */
static void tell(struct serial *serial)
{
    set_line(serial);
    if (!serial->input_was_refused || serial->receive.count > 0 || is_loop(serial))
        return;
    serial->input_was_refused = false;
    if (serial->port->class->input_room)
        serial->port->class->input_room(serial->port);
}

static void send(struct serial *serial)
{
    struct uart_fifo *fifo = &serial->transmit;

    if (fifo->count == 0)
        return;
    uart_fifo_drop(fifo, serial->port->class->output(serial->port, fifo->bytes, fifo->count));
    if (fifo->count == 0)
        serial->transmit_interrupt = true;
}

/* What is sent in loopback comes in. A FIFO that is full keeps what it has; without FIFOs the newer byte stays. */
static void loop_back(struct serial *serial, uint8_t byte)
{
    bool is_full = has_fifos(serial) && serial->receive.count == SERIAL_FIFO_BYTES;
    if (is_full || !uart_fifo_push(&serial->receive, depth(serial), byte))
        serial->overrun = true;
    serial->transmit_interrupt = true;
}

static void write_data(struct serial *serial, uint8_t byte)
{
    bool waiting = serial->transmit.count > 0;

    serial->transmit_interrupt = false;
    set_line(serial);
    if (is_loop(serial)) {
        loop_back(serial, byte);
        return;
    }
    if (!uart_fifo_push(&serial->transmit, depth(serial), byte))
        serial->lost_total++;
    if (!waiting)
        send(serial);
}

static void clear_transmit(struct serial *serial)
{
    if (serial->transmit.count > 0)
        serial->transmit_interrupt = true;
    serial->transmit.count = 0;
}

static void write_fifo_control(struct serial *serial, uint8_t value)
{
    bool changes = ((value ^ serial->fifo_control) & FCR_ENABLE) != 0;

    /* The other bits count only together with this one (8.4). */
    if (!(value & FCR_ENABLE))
        value = 0;
    if (changes || (value & FCR_CLEAR_RECEIVE))
        serial->receive.count = 0;
    if (changes || (value & FCR_CLEAR_TRANSMIT))
        clear_transmit(serial);
    serial->fifo_control = value & FCR_KEPT;
}

static void write_interrupt_enable(struct serial *serial, uint8_t value)
{
    /* Enabled while THR is empty: that is an interrupt at once. Drivers look for it. */
    if ((value & ~serial->interrupt_enable & IER_EMPTY) && serial->transmit.count == 0)
        serial->transmit_interrupt = true;
    serial->interrupt_enable = value & IER_ALL;
}

/* The high half of MSR. */
static uint8_t modem_lines(const struct serial *serial)
{
    uint8_t control = serial->modem_control;

    if (!is_loop(serial))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)((control & MCR_RTS ? MSR_CTS : 0) | (control & MCR_DTR ? MSR_DSR : 0) |
                     (control & MCR_OUT1 ? MSR_RI : 0) | (control & MCR_OUT2 ? MSR_DCD : 0));
}

static void write_modem_control(struct serial *serial, uint8_t value)
{
    uint8_t before = modem_lines(serial);

    serial->modem_control = value & MCR_ALL;
    uint8_t after = modem_lines(serial);
    uint8_t changes = (uint8_t)((before ^ after) & (MSR_CTS | MSR_DSR | MSR_DCD));
    uint8_t ring_ended = (uint8_t)(before & ~after & MSR_RI); /* TERI: its trailing edge alone */
    serial->modem_deltas |= (uint8_t)((changes | ring_ended) >> 4);
}

static uint8_t read_interrupt(struct serial *serial)
{
    uint8_t id = interrupt_of(serial);

    if (id == IIR_EMPTY)
        serial->transmit_interrupt = false;
    return (uint8_t)(id | (has_fifos(serial) ? IIR_FIFOS : 0));
}

static uint8_t read_line_status(struct serial *serial)
{
    unsigned status = (serial->receive.count > 0 ? LSR_READY : 0) | (serial->overrun ? LSR_OVERRUN : 0) |
                      (serial->transmit.count == 0 ? LSR_EMPTY : 0);

    serial->overrun = false;
    return (uint8_t)status;
}

static uint8_t read_modem_status(struct serial *serial)
{
    uint8_t status = modem_lines(serial) | serial->modem_deltas;

    serial->modem_deltas = 0;
    return status;
}

static uint8_t read_register(struct serial *serial, uint64_t offset)
{
    bool latch = (serial->line_control & LCR_DLAB) != 0;

    switch (offset) {
    case REGISTER_DATA:
        return latch ? (uint8_t)serial->divisor : uart_fifo_pop(&serial->receive);
    case REGISTER_IER:
        return latch ? (uint8_t)(serial->divisor >> 8) : serial->interrupt_enable;
    case REGISTER_IIR:
        return read_interrupt(serial);
    case REGISTER_LCR:
        return serial->line_control;
    case REGISTER_MCR:
        return serial->modem_control;
    case REGISTER_LSR:
        return read_line_status(serial);
    case REGISTER_MSR:
        return read_modem_status(serial);
    default:
        return serial->scratch;
    }
}

static void write_register(struct serial *serial, uint64_t offset, uint8_t value)
{
    bool latch = (serial->line_control & LCR_DLAB) != 0;

    switch (offset) {
    case REGISTER_DATA:
        if (latch)
            serial->divisor = (uint16_t)((serial->divisor & 0xff00) | value);
        else
            write_data(serial, value);
        break;
    case REGISTER_IER:
        if (latch)
            serial->divisor = (uint16_t)((serial->divisor & 0xff) | value << 8);
        else
            write_interrupt_enable(serial, value);
        break;
    case REGISTER_IIR:
        write_fifo_control(serial, value);
        break;
    case REGISTER_LCR:
        serial->line_control = value;
        break;
    case REGISTER_MCR:
        write_modem_control(serial, value);
        break;
    case REGISTER_SCR:
        serial->scratch = value;
        break;
    default: /* LSR and MSR are for reading */
        break;
    }
}

static uint8_t serial_read_byte(struct bus_device *device, uint64_t offset)
{
    struct serial *serial = serial_of(device);
    uint8_t value = read_register(serial, offset);

    tell(serial);
    return value;
}

static void serial_write_byte(struct bus_device *device, uint64_t offset, uint8_t value)
{
    struct serial *serial = serial_of(device);

    write_register(serial, offset, value);
    tell(serial);
}

static enum bus_result serial_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    return bus_bytes_read(device, offset, size, ret_value, serial_read_byte);
}

static enum bus_result serial_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    return bus_bytes_write(device, offset, size, value, serial_write_byte);
}

static const struct bus_device_class serial_class = {
    .name = "serial",
    .read = serial_read,
    .write = serial_write,
};

void serial_init(struct serial *serial, struct uart_port *port, struct irq_line *irq)
{
    *serial = (struct serial){
        .device.class = &serial_class,
        .port = port,
        .irq = irq,
        .divisor = DIVISOR_9600,
    };
}

void serial_reset(struct serial *serial)
{
    serial->receive.count = 0;
    serial->transmit.count = 0;
    serial->interrupt_enable = 0;
    serial->fifo_control = 0;
    serial->line_control = 0;
    serial->modem_control = 0;
    serial->modem_deltas = 0;
    serial->overrun = false;
    serial->transmit_interrupt = false;
    tell(serial);
}

size_t serial_input(struct serial *serial, const uint8_t *bytes, size_t count)
{
    size_t room = is_loop(serial) ? 0 : depth(serial) - serial->receive.count;
    size_t taken = size_min(room, count);

    for (size_t i = 0; i < taken; i++)
        uart_fifo_push(&serial->receive, depth(serial), bytes[i]);
    serial->input_was_refused = taken < count;
    set_line(serial);
    return taken;
}

void serial_output_ready(struct serial *serial)
{
    send(serial);
    set_line(serial);
}

int serial_save(const struct serial *serial, struct state_writer *writer)
{
    uint8_t record[STATE_BYTES] = {
        serial->interrupt_enable, serial->fifo_control, serial->line_control, serial->modem_control,
        serial->scratch,          serial->modem_deltas, serial->overrun,      serial->transmit_interrupt,
    };

    put_le16(record + 8, serial->divisor); /* 2 bytes are free after it */
    record[12] = serial->receive.count;
    memcpy(record + 13, serial->receive.bytes, SERIAL_FIFO_BYTES);
    record[13 + SERIAL_FIFO_BYTES] = serial->transmit.count;
    memcpy(record + 14 + SERIAL_FIFO_BYTES, serial->transmit.bytes, SERIAL_FIFO_BYTES);
    return state_put(writer, SERIAL_STATE_TAG, STATE_VERSION, record, sizeof(record));
}

int serial_load(struct serial *serial, const struct state_record *record)
{
    const uint8_t *from = record->payload;
    struct serial loaded = *serial;

    if (record->version > STATE_VERSION)
        return -ENOTSUP;
    if (record->length != STATE_BYTES)
        return -EBADMSG;
    loaded.interrupt_enable = from[0];
    loaded.fifo_control = from[1];
    loaded.line_control = from[2];
    loaded.modem_control = from[3];
    loaded.scratch = from[4];
    loaded.modem_deltas = from[5];
    loaded.overrun = from[6] != 0;
    loaded.transmit_interrupt = from[7] != 0;
    loaded.divisor = get_le16(from + 8);
    loaded.receive.count = from[12];
    memcpy(loaded.receive.bytes, from + 13, SERIAL_FIFO_BYTES);
    loaded.transmit.count = from[13 + SERIAL_FIFO_BYTES];
    memcpy(loaded.transmit.bytes, from + 14 + SERIAL_FIFO_BYTES, SERIAL_FIFO_BYTES);
    if ((from[0] & ~IER_ALL) || (from[1] & ~FCR_KEPT) || (from[1] && !has_fifos(&loaded)) || (from[3] & ~MCR_ALL) ||
        (from[5] & ~MSR_DELTAS) || from[6] > 1 || from[7] > 1 || loaded.receive.count > depth(&loaded) ||
        loaded.transmit.count > depth(&loaded))
        return -EBADMSG;
    *serial = loaded;
    send(serial);
    tell(serial);
    return 0;
}
