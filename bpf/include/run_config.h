/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a component declares: its run priority, and its chain call actions (the return codes after which the next
 * component of the chain runs). A loader reads it from the object's types and never loads it: the numbers are lengths of
 * arrays that exist only as types. Loaders that share chains agree on this form: a variable named after the program,
 * with a leading underscore, in the section .xdp_run_config.
 *
 *     RUN_CONFIG(my_filter, RUN_PRIORITY(10), CONTINUE_ON(XDP_PASS), CONTINUE_ON(XDP_TX));
 *
 * Defaults: priority 50, and XDP_PASS alone. STOP_ON(XDP_PASS) removes that one.
 */
#ifndef XDPTUI_RUN_CONFIG_H
#define XDPTUI_RUN_CONFIG_H

#define RUN_PRIORITY(number) (*priority)[number]
#define CONTINUE_ON(action)  (*action)[1]
#define STOP_ON(action)      (*action)[0]

/* Every item is a declarator, so that the commas between them are those of one C declaration. */
#define RUN_CONFIG(program, ...)                                                         \
	struct {                                                                         \
		int __VA_ARGS__;                                                         \
	} _##program __attribute__((section(".xdp_run_config"), used))

#endif
