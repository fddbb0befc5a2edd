//! Where the microseconds of a message go, and what the limit is. Figures alone: there is no code here.
//!
//! Counted on 2026-11-23 on a virtual machine with two cores, without plugins, TLS and logs, one worker, messages
//! of 4 KiB over 50 connections that are reused; built with `lto = "off"`, `codegen-units = 16`. Counts do not
//! depend on what else the machine does. Bounds on the reads and writes of each flight are in `tests/limits/calls.rs`,
//! those on allocations in `tests/limits/allocations.rs`; `make instructions` counts the parts.
//!
//! # System calls of a message
//!
//! `strace -f -c` over 4,000 messages. *floor* is `benches/peers/floor.c`: what the kernel costs a server that
//! checks nothing and keeps nothing but the text.
//!
//! | | read | write | epoll_wait | futex, sched_yield, wake | fdatasync | all |
//! |---|---|---|---|---|---|---|
//! | accepted in steps (`smtp-source`) | 4.04 | 4.06 | 0.14 | 0.14 | 0.02 | 8.5 |
//! | the same, floor | 4.04 | 4.04 | 0.14 | 0.15 | 0.03 | 8.4 |
//! | accepted, `rohrpost load --flight pipelined` | 2.04 | 2.06 | 0.10 | 0.14 | 0.02 | 4.5 |
//! | accepted, `--flight bdat` | 1.04 | 1.06 | 0.06 | 0.14 | 0.02 | 2.4 |
//! | accepted in steps and passed on to `rohrpost sink` | 6.05 | 5.09 | 0.15 | 0.23 | 0.02 | 11.6 |
//!
//! A flight is one read and one write, on either side. What is passed on to a host with CHUNKING and PIPELINING
//! is one flight; the second read looks whether a connection that paused is still there. Everything else is
//! shared: 30 to 50 messages had one write to the log, one sync and one wake of each thread. Two workers halve
//! the connections that each gathers from, so batches are smaller: 0.05 syncs and 0.50 waits a message, 9.0 calls
//! in all.
//!
//! # Instructions of a message, in user space
//!
//! `valgrind --tool=callgrind`, switched on for 3,000 messages once the server runs.
//!
//! | | instructions |
//! |---|---|
//! | accepted in steps | 37,500 |
//! | of these: the dialogue without its text, three commands | 4,900 |
//! | the text: its end, dots and line ends, and its header for loops | 6,200 |
//! | the allocator | 3,800 |
//! | our Received field, the transaction, its hand-over | 3,300 |
//! | commit thread: the record, its checksum, the index of the log | 6,300 |
//! | the store and its schedule | 2,500 |
//! | the answer, from the completion to the socket | 4,200 |
//! | the loop and the driver between all these | the rest |
//! | accepted, `--flight pipelined` | 35,000 |
//! | accepted, `--flight bdat` | 33,600 |
//! | accepted in steps, by two workers | 38,000 |
//! | accepted in steps and passed on | 59,400 |
//! | accepted in steps, floor | 7,400 |
//! | accepted in steps, 100 KiB | 194,000 |
//!
//! The parts overlap where one calls another: the allocator is in all of them. At three to four instructions a
//! nanosecond the whole is 9 to 13 µs, and five sixths of a message's processor time are the kernel's: the
//! ticks of `/proc/PID/stat` over 40,000 messages were 36 to 52 in user space and 231 to 247 in the kernel (three runs
//! of a build for release, the server pinned to one processor).
//!
//! # Allocations of a message
//!
//! `valgrind --tool=dhat`, and counted by the build for tests: 12.5 of one that is accepted, 23 of one that is
//! passed on as well. They are its two addresses; text, what shares it, the list of texts; recipients; Received
//! field; the message before and after it is whole; the receipt; an entry of the store. On the way out: the
//! addresses as they are checked again, three replies, and what is recorded of the last. A plugin that looks at
//! addresses adds one for each.
//!
//! The allocator is the C library's, told to keep what came free ([`rohrpost_abi::keep_freed_memory`]). Measured on
//! 2026-11-23, four alternating runs, medians of messages per second of the server's CPU time, pinned: texts of 100 KiB
//! 4,210 as it is by itself, 7,690 as it is told, 7,510 with mimalloc; of 4 KiB 18,400 both ways, with jemalloc
//! and mimalloc 0 to 5 % less.
//!
//! # Copies of an octet of text
//!
//! From the socket into the buffer that stays its home (1, by the kernel); dots are taken off in place. From there to
//! the page cache (1, by the kernel: the record is written from where it lies), which the disk reads. From there
//! to the next hop's socket (1, by the kernel; one more under TLS, each way). Where MAIL says no size, a text moves
//! when it outgrows 17 KiB: a sixth of the octets of one of 100 KiB. With BDAT what came with the commands is
//! copied once more, out of the buffer that all connections read into.
//!
//! # Two workers
//!
//! They share no cache line that is written for every message. Executed instructions with a `lock`
//! (`--dump-instr=yes`, matched with the disassembly) are twelve to fifteen a message: the counts of the
//! message's own texts and names, which travel between its worker and the commit thread, and that thread's
//! lock on the index of the log. Numbers are plain stores into lines of each worker's own ([`crate::metrics`]); the
//! memory budget is taken in steps ([`crate::limits::Share`]); what workers share is written once a connection
//! (its count) or a batch (the queue of the commit thread).
//!
//! # What the limit is
//!
//! The floor takes 8.4 calls and 7,400 instructions in steps; we take 8.5 and 37,500. So all that a server's code
//! can still win is some 30,000 instructions, and what remains is the kernel's: about eight passes through TCP,
//! and writing 4 KiB through the page cache. Below the floor there is only less of these:
//!
//! - **Fewer round trips**, which is the client's choice: PIPELINING halves the calls of a message, BDAT in one
//!   flight has 2.4 of 8.5. We offer both, and use both on the way out.
//! - **Fewer calls for the same round trips**: `io_uring` would submit the reads and writes of a turn at once. It
//!   saves the way into the kernel, not TCP; is switched off in many containers; and a plugin's watches would
//!   need a second loop beside it.
//! - **Writing past the page cache** (`O_DIRECT` into segments that are made beforehand and used again): the
//!   commit thread, nearly all of it in the kernel, has a quarter of the ticks above. It would need aligned copies
//!   of all texts, and everything that reads a segment back would read the disk.
