// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Listens to what programs print with bpf_printk(), on the kernel's tracepoint for it: no trace file has to be mounted,
 * and other readers of one miss no line. The stack shows which program printed, and where in it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define RING (1 << 18)
#define FRAMES 16
#define TEXT 256

struct said {
	__u64 at; /* CLOCK_MONOTONIC, ns */
	__u32 cpu;
	__u32 frames;
	__u64 stack[FRAMES];
	char text[TEXT];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING);
} xdptui_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} xdptui_lost SEC(".maps");

SEC("raw_tracepoint/bpf_trace_printk")
int xdptui_said(struct bpf_raw_tracepoint_args *ctx)
{
	struct said *said = bpf_ringbuf_reserve(&xdptui_ring, sizeof(*said), 0);
	__u32 zero = 0;
	__u64 *lost;
	long size;

	if (!said) {
		lost = bpf_map_lookup_elem(&xdptui_lost, &zero);
		if (lost)
			*lost += 1;
		return 0;
	}
	said->at = bpf_ktime_get_ns();
	said->cpu = bpf_get_smp_processor_id();
	size = bpf_get_stack(ctx, said->stack, sizeof(said->stack), 0);
	said->frames = size > 0 ? size / sizeof(__u64) : 0;
	if (bpf_probe_read_kernel_str(said->text, sizeof(said->text), (void *)ctx->args[0]) < 0)
		said->text[0] = 0;
	bpf_ringbuf_submit(said, BPF_RB_NO_WAKEUP);
	return 0;
}

char _license[] SEC("license") = "GPL";
