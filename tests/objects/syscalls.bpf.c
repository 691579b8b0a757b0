// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts the system calls of chosen processes and their descendants, by number; those to bpf(2) by command.
 *
 * Not counted is what depends on addresses, timing and other processes: memory, locks, and reading what /proc says of
 * other processes.
 */
#include <linux/bpf.h>
#include <asm/unistd.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define KINDS 1024

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct task_struct {
	int tgid;
};

struct pt_regs___x86 {
	unsigned long di, si;
};

struct user_pt_regs {
	__u64 regs[31];
};
#pragma clang attribute pop

struct kind {
	__u32 number;
	__u32 command; /* of bpf(2), plus 1 */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KINDS);
	__type(key, __u32);
	__type(value, __u32);
} watched SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KINDS);
	__type(key, struct kind);
	__type(value, __u64);
} made SEC(".maps");

/* The threads that have a file of another process open. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KINDS);
	__type(key, __u32);
	__type(value, __u32);
} reading SEC(".maps");

static __always_inline __u64 argument(const void *regs, int place)
{
	const struct pt_regs___x86 *x86 = regs;
	const struct user_pt_regs *other = regs;

	if (bpf_core_field_exists(x86->di))
		return place ? BPF_CORE_READ(x86, si) : BPF_CORE_READ(x86, di);
	return place ? BPF_CORE_READ(other, regs[1]) : BPF_CORE_READ(other, regs[0]);
}

static __always_inline bool of_a_process(__u64 path)
{
	char text[8] = {};

	bpf_probe_read_user(text, 7, (const void *)path);
	return text[0] == '/' && text[1] == 'p' && text[2] == 'r' && text[3] == 'o' && text[4] == 'c' && text[5] == '/'
	       && text[6] >= '1' && text[6] <= '9';
}

static __always_inline bool depends(__u32 number, const void *regs)
{
	__u32 thread = bpf_get_current_pid_tgid(), opening = 1;

	switch (number) {
	case __NR_brk:
	case __NR_mmap:
	case __NR_munmap:
	case __NR_mremap:
	case __NR_mprotect:
	case __NR_madvise:
	case __NR_futex:
	case __NR_gettid:
	case __NR_getpid: /* compared with each other process */
	case __NR_sched_yield:
	case __NR_restart_syscall:
	case __NR_rt_sigreturn:
		return true;
	case __NR_openat:
		if (of_a_process(argument(regs, 1))) {
			bpf_map_update_elem(&reading, &thread, &opening, BPF_ANY);
			return true;
		}
		break;
	case __NR_readlinkat:
	case __NR_newfstatat:
		if (of_a_process(argument(regs, 1)))
			return true;
		break;
#ifdef __NR_readlink
	case __NR_readlink:
		if (of_a_process(argument(regs, 0)))
			return true;
		break;
#endif
	case __NR_close:
		return !bpf_map_delete_elem(&reading, &thread);
	}
	return bpf_map_lookup_elem(&reading, &thread) != NULL;
}

SEC("raw_tracepoint/sys_enter")
int entered(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 process = bpf_get_current_pid_tgid() >> 32;
	const void *regs = (const void *)ctx->args[0];
	struct kind kind = { ctx->args[1] };
	__u64 one = 1, *count;

	if (!bpf_map_lookup_elem(&watched, &process) || depends(kind.number, regs))
		return 0;
	if (kind.number == __NR_bpf)
		kind.command = argument(regs, 0) + 1;
	count = bpf_map_lookup_elem(&made, &kind);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&made, &kind, &one, BPF_ANY);
	return 0;
}

SEC("raw_tracepoint/sys_exit")
int left(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 thread = bpf_get_current_pid_tgid(), *opening = bpf_map_lookup_elem(&reading, &thread);

	if (opening && *opening) {
		*opening = 0;
		if ((long)ctx->args[1] < 0)
			bpf_map_delete_elem(&reading, &thread);
	}
	return 0;
}

SEC("raw_tracepoint/sched_process_fork")
int forked(struct bpf_raw_tracepoint_args *ctx)
{
	const struct task_struct *parent = (const void *)ctx->args[0], *child = (const void *)ctx->args[1];
	__u32 process = BPF_CORE_READ(parent, tgid), more = BPF_CORE_READ(child, tgid);

	if (bpf_map_lookup_elem(&watched, &process))
		bpf_map_update_elem(&watched, &more, &process, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
