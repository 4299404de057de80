/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The commands of the program. Each gets the arguments after its name and returns the exit status. */
#ifndef PROGRAMS_COMMAND_H
#define PROGRAMS_COMMAND_H

int command_blk(int count, char **arguments);
int command_rng(int count, char **arguments);
int command_console(int count, char **arguments);
int command_ctl(int count, char **arguments);
int command_vm(int count, char **arguments);
int command_probe(int count, char **arguments);

#endif
