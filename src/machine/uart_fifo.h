/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The FIFO of a serial chip. How deep it is now, is for the chip to say: less than there is room for. */
#ifndef MACHINE_UART_FIFO_H
#define MACHINE_UART_FIFO_H

#include "base/base.h"

#define UART_FIFO_BYTES 32 /* the deepest of our chips */

struct uart_fifo {
    uint8_t bytes[UART_FIFO_BYTES]; /* the oldest first */
    uint8_t count;
};

/* Append; what finds it full takes the place of the newest byte, and the answer is false. @depth is not 0. */
static inline bool uart_fifo_push(struct uart_fifo *fifo, unsigned depth, uint8_t byte)
{
    bool fits = fifo->count < depth;

    if (fits)
        fifo->count++;
    fifo->bytes[fifo->count - 1] = byte;
    return fits;
}

/* Drop the oldest @count bytes. */
static inline void uart_fifo_drop(struct uart_fifo *fifo, size_t count)
{
    ASSERT(count <= fifo->count);
    fifo->count = (uint8_t)(fifo->count - count);
    memmove(fifo->bytes, fifo->bytes + count, fifo->count);
}

/* Take the oldest byte: 0 when there is none. */
static inline uint8_t uart_fifo_pop(struct uart_fifo *fifo)
{
    uint8_t byte = fifo->bytes[0];

    if (fifo->count == 0)
        return 0;
    uart_fifo_drop(fifo, 1);
    return byte;
}

#endif
