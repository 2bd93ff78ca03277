/* message.h: lines for the user, by write(2): the library uses no stdio. */

#ifndef TM_MESSAGE_H
#define TM_MESSAGE_H

/* Writes the PIECES up to NULL to FD as one line, `tracemalloc: ` before it. */
void message_write(int fd, const char *const pieces[]);

/* What an errno means, in words that live for ever; never allocates. */
const char *message_of(int error);

/* NUMBER in decimal, in DIGITS, which it returns. */
const char *message_number(unsigned long number, char digits[24]);

#endif
