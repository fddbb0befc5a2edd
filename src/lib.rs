//! Rohrpost, an open mail transfer runtime: mail comes in over SMTP, is kept in a durable queue, and
//! goes out over SMTP; plugins are asked at every step. This page is the map; each file opens with
//! what it owns and what it must never do.
//!
//! # Crates and modules
//!
//! | place | owns | never |
//! |---|---|---|
//! | `reactor/` | the event loop: turn, timers, watches, mailbox, slab | knows of mail or plugins |
//! | `abi/` | the plugin interface: header, tokens, loading, the way into and out of plugin code; all `unsafe` | knows of SMTP or of the loop |
//! | `abi/sdk/` | the layer for plugins in Rust | knows of any crate |
//! | [`smtp`] | the dialogue as values: server session, client session, text | sockets, clocks, files |
//! | [`queue`] | the trait of a queue, and the engine on this machine's disk | sessions, loop, plugins |
//! | [`delivery`] | the mails of a worker, their destinations and routes, connections, outcomes | sockets, clocks |
//! | [`plugin`] | the chain of one step, and walking it | sockets, timers |
//! | [`plugin_kit`] | `rohrpost plugin`: what helps whoever writes one | runs a plugin beside a server |
//! | [`notice`] | what senders are told of their mail, as values | decides when an attempt is over |
//! | [`results`], [`taking`] | results of mail as values; named queues and whoever takes from them | makes anything nobody asked for |
//! | [`properties`] | what a message says and asks for, as MailerQ's JSON: told, and read back from plugins | says a password |
//! | [`header`], [`extract`] | the header of a text; what a client asks for in it | refuses a mail for what its header says |
//! | [`net`] | sockets, and the drivers that join them to sessions; what drivers share ([`net::desk`]) | decisions about protocol |
//! | [`tls`] | certificates, keys, authorities, and who is trusted | sockets |
//! | [`rolls`], [`locals`] | what files of their own say: users, local addresses | decides about mail |
//! | [`auth`] | users, their hashes, and the thread that computes those | sessions, sockets |
//! | [`worker`] | the handler of the turn: tokens to drivers, start, accept, dispatch, stop | blocks |
//! | [`supervisor`] | start, signals and end, on the main thread | touches mail |
//! | [`settings`], [`cli`], [`program`], [`upkeep`], [`manual`] | names and values, arguments, subcommands | |
//! | [`control`], [`view`], [`metrics`], [`exposition`], [`status`], [`plugin_top`], [`log`] | what is said to whoever asks, and the application log | message text |
//! | [`limits`], [`memory`], [`clock`], [`lock`] | budgets, live heap octets (tests), dates, the lock of the queue | |
//! | [`services`] | the thread for asynchronous libraries: look-ups in DNS | touches what a worker owns |
//! | [`logbook`] | the send log and the received log | blocks a worker, drops a line |
//! | [`blocking`], [`mailboxes`], [`watchdog`] | the helper thread, the way to the workers, slow plugins | |
//! | [`crashes`], [`keeper`] | who ended earlier servers; the process that starts this one again | touches mail |
//! | [`sink`] | `rohrpost sink`: takes mail and throws it away | |
//! | [`load`] | `rohrpost load`: sends mail as fast as a server takes it, or at a rate, and measures | verifies a certificate, sends twice |
//!
//! Whoever reads from the start may take [`smtp::server`], then `net/incoming.rs`, `worker/turn.rs`,
//! `queue/log/journal.rs`, `delivery/store.rs` and `net/outgoing.rs`: that is the way of a mail. What a message
//! costs on it is counted in [`cost`].
//!
//! # Threads
//!
//! | thread | how many | may block |
//! |---|---|---|
//! | `worker-N` | `smtp-threads`, pinned unless `smtp-pin: off`: SMTP both ways, plugins, timers, schedule | never |
//! | `commit` | 1: one write and one sync for what all workers have pending | disk |
//! | `helper` | 1: reads texts back, and what notices and results need | disk |
//! | `verifier` | 1: computes the hashes of passwords, at most 64 waiting, 8 of one network | computes for tens of ms |
//! | `taker` | 1 a taker, 16 at most: sends results and waits until they are acknowledged | disk, its taker |
//! | `services` | 1: asks name servers where mail goes, on a runtime that the first question makes | its own awaits |
//! | log | 1: writes the application log; drops and counts when it is behind | disk |
//! | `logbook` | 1, where a send log or received log is kept: makes lines and writes them; who is ahead of it waits | disk |
//! | `watchdog` | 1, where plugins are loaded: looks, and reads debug information | sleeps, disk |
//! | `crashes` | 1 for a moment, after a crash: tells its functions | disk |
//! | `signals`, control | 1 each | yes |
//! | `recovery` | 1 after a start on a log of more than 32 MiB, until it has read what is waiting there (`supervisor/backlog.rs`) | disk |
//! | `ending` | 1 from a signal to stop on, 1 while plugins are cleaned up: ends a process whose main thread is blocked | sleeps |
//! | main | 1: [`supervisor`] | yes |
//!
//! Threads reach a worker through its mailbox only. What travels: [`net::desk::Mail`].
//!
//! # How a mail travels
//!
//! ```text
//! socket -> Session (smtp::server) -> Event -> Incoming: a plugin chain a step
//!   final dot -> Message: data chain, then one message chain a recipient
//!   -> Transaction (texts once, all recipients) -> Desk::batch -> commit phase -> Queue::hand_over
//!   -> commit thread: write, fdatasync -> Completion -> mailbox
//!   -> Store::admit, and 250 to the client if it is still there
//! Store: ready -> Destinations: route (services: MX, A, AAAA), journey from host to host
//!   -> Outgoing, greeted already -> out_message chain -> MAIL RCPT DATA -> 354 -> out_data chain
//!   -> text, dot -> out_sent chain -> reply -> Finish -> out_result chain -> Store::on_finish -> Attempt -> Desk::batch -> settled with the next sync
//!   -> with the notice to its sender and results, if any are due, in front ([`net::settlement`])
//!   -> freed, waiting for its next attempt, or failed and kept until max-delivertime
//! ```
//!
//! The states of a mail in memory are ready, loading, active, waiting, failed ([`delivery::Place`]). A
//! text leaves memory when no recipient needs it soon (`delivery/store_texts.rs`), or at once when memory is
//! short; it is read back when one is due.
//!
//! # One turn
//!
//! poll, clock, timers, plugin watches, sockets, mailbox, verdicts, commit, flush; see the reactor's
//! documentation. Where a plugin has asked for libev's loop, the poll is a run of that one ([`net::foreign`]).
//! Here: sockets drive sessions and chains; verdicts resume held chains one by one;
//! the commit phase gives ready mails to connections, hands the batch over (under load not every turn,
//! `worker/gather.rs`) and arms the delivery timer; flush offers output to sockets. A flush may let a
//! connection go on, so the worker stays awake if that left something pending.
//!
//! # Invariants
//!
//! Each with the file that keeps it and the test that proves it.
//!
//! 1. No text is answered 250 before its record is synced. `queue/log/journal.rs`; the order of
//!    system calls in `tests/durability.rs`, kills under load in `tests/crash.rs`.
//! 2. What was answered 250 survives any crash, failed call or torn write; a damaged byte costs its
//!    own record at most, and an outcome what it is told by. `queue/log/recovery.rs`;
//!    `queue/log/tests/crash.rs`, `damage.rs`, `results.rs`.
//!    Also while a long log is still being read: what comes in meanwhile is written behind it, and no
//!    worker knows of a mail before the log does. `queue/log/start.rs`; `crash.rs`, `tests/operation/backlog.rs`.
//! 3. A final 250 that was received is never tried again within the life of the process: the outcome
//!    is applied in memory at once, or when a held `mq_smtp_out_sent` is over (D-82), and written
//!    afterwards. `delivery/store.rs`, `net/outgoing.rs`, `net/asked.rs`; `d_82_…` in `tests/plugins/`, and within a round of `tests/crash.rs` no mail comes twice.
//! 4. Over a crash a mail comes twice only if its final dot was sent and its outcome not durable;
//!    `settles_unwritten` in the status is the bound of it, with the steps that plugins hold (`held`).
//!    `tests/crash.rs` counts.
//! 5. Once handed to commit a mail is ours, whether the client is there or not. `net/desk.rs`
//!    (`committing`), `worker/turn.rs` (`on_committed`); the endings in `tests/plugins/ending.rs`.
//! 6. A mail is given only to a connection that was greeted: a host that is down costs no attempt
//!    while there is another, and the smarthost of the settings costs none at all. `delivery/journey.rs`,
//!    `delivery/destinations.rs`; their tests and `tests/routes/`.
//! 7. Protocols are values: `smtp/`, `queue/mail.rs`, `queue/schedule.rs` and `plugin/chain.rs` name
//!    no socket, clock, file or thread. `tests/tidy.rs`.
//! 8. Every outcome of every state and command is reviewed text. `smtp/server/outcomes.rs`,
//!    `smtp/client/outcomes.rs` (`every_outcome_is_as_reviewed`).
//! 9. No octet of a text that a client sends is held without its reservation, and each reservation
//!    is given back once. `smtp/server/receiver.rs`, `limits.rs`; their tests, and
//!    `a_lost_peer_leaves_nothing_reserved`.
//! 10. While a plugin holds a step the session parses nothing and the socket is not read; a chain is
//!     serial, and resumed after the callback has returned. `net/incoming.rs`, `plugin/chain.rs`;
//!     `d_47_a_parked_session_waits`, the tests of the chain.
//! 11. A token of a plugin that is stale, foreign or of another kind does nothing. `abi/src/token.rs`;
//!     `abi/tests/plugins/misuse.rs`, once under the address sanitizer.
//! 12. The loop never sleeps on work. `reactor/src/turn.rs`; `the_loop_does_not_sleep_on_work`.
//! 13. Every wait of a connection has a deadline, but a plugin's hold where `plugin-timeout` is 0.
//!     `net/deadline.rs` and `deadline_ms` of both drivers; of the session,
//!     `deadlines_and_shutdown_say_421_and_release_all`; stalls and drips at each phase in
//!     `tests/limits/` (`…_deadlines.rs`) and `tests/routes/deadlines.rs`.
//! 14. Nothing may relay but clients in `smtp-relay-range`, authenticated ones, and mail for local
//!     domains; where clients can log in, only if that range was set. `net/incoming_mail.rs` (`finish_recipient`),
//!     `net/login.rs`; `tests/dialogues/relay-refused.txt`, `auth-required.txt`.
//! 15. No plugin, mail or log file is touched with the rights of root once `user` is set, and no
//!     thread keeps them. `supervisor/rights.rs`; `tests/operation/user.rs`.
//! 16. A reload changes all workers or none, and drops no connection. `supervisor/reload.rs`;
//!     `tests/operation/reload.rs`. A connection keeps the plugins that it began with, whatever is
//!     reloaded, and mail over outgoing ones meets those of now (D-0E). `supervisor/renewal.rs`,
//!     `worker/context.rs`; `tests/plugins/renewal.rs`.
//! 17. A client's password is in our memory until it is judged and no longer, in no log and no message
//!     about settings. `smtp/sasl.rs`, `net/login.rs`; `tests/login.rs` looks through the memory of the
//!     server. What rustls decrypts into its own buffers it frees without wiping them.
//! 18. All `unsafe` is in `abi/`, each with its reason. `tests/tidy.rs`.
//! 19. Nothing that a client sent in clear is used after its TLS handshake. `smtp/server/session.rs`
//!     (`on_secure`, `forget`), `net/incoming_begin.rs`; `rfc_3207_4_2_…` beside the session and in
//!     `tests/tls/attack.rs`.
//! 20. Octets count as written when they have left this process, in clear and under TLS, and plaintext
//!     that TLS still holds is never slept on. `net/secure.rs`; `net/transport_tests.rs`.
//! 21. No plugin sees a client that a range or limit turns away, its own or that which a proxy names.
//!     `worker/accept.rs`, `net/incoming_begin.rs`; `d_30_d_31_…` in `tests/plugins/`.
//! 22. The password of the smarthost goes to nobody else, and in clear or to a host that has not proved
//!     its name only where `smarthost-auth` says so; where TLS is required nothing goes out in clear, and
//!     nothing that came before a handshake is used after it. After a reload this holds for connections
//!     that were there before: no mail follows over one that would not be made any more.
//!     `net/outgoing_secure.rs`, `smtp/client/greeting.rs`; their tests, `tests/hops/tls.rs`, `login.rs`,
//!     `reload.rs`.
//! 23. There is no outcome without its result or notice, nor one of these without its outcome, whatever is
//!     torn or fails. `queue/log/journal.rs` (`add_group`), `recovery.rs`; `queue/log/tests/crash.rs`
//!     (`check_results`).
//! 24. A result is taken at least once, and by one taker at a time. `taking.rs`; `tests/results/taking.rs`.
//! 25. A login of the settings goes to their smarthost, one that a message brings to the host that it
//!     names. `net/outgoing_secure.rs` (`login`).
//! 26. One mail stays one: no text ends but by CRLF, dot, CRLF, none leaves with a CR or LF alone, and no
//!     name or address leaves its place. `smtp/server/receiver.rs`, `smtp/stuffer.rs`, `smtp/trace.rs`;
//!     `tests/smuggling/`, which has the servers of others count.
//! 27. What plugins make of a mail, its own wishes and notes, is as durable as what it came with: with the
//!     250 what was made before, with the outcome of the attempt what was made on the way out.
//!     `queue/log/extras.rs`, `delivery/store_own.rs`, `net/outgoing_made.rs`; `queue/log/tests/extras.rs`,
//!     `tests/plugins/json.rs`.
//!
//! 27. A plugin that ends the process is named, with its hook or its thread, on stderr, in the file of
//!     crashes and at the next start; the server comes back, and has lost nothing that was answered 250.
//!     `abi/src/crash.rs`, `crashes.rs`, `keeper.rs`; `tests/containment/`.
//!     One that blocks the main thread is named too, and does not outlive `shutdown-timeout`.
//!     `watchdog.rs`, `supervisor/server.rs`; `tests/containment/blocked.rs`.
//! 28. What is thrown or panics in a plugin on one of our layers costs its step and no more; a step that it
//!     holds ends with its owner. `abi/include/mailerq.hpp`, `abi/sdk`; `tests/kit/layers.rs`.
//!
//! # Choices
//!
//! What was decided while building, and why.
//!
//! - **A drop guard within `catch_unwind` at the way into plugin code**, though the design has no
//!   guard on that frame: what a catch does with a foreign exception is unspecified, and without a
//!   catch the process ends before any frame of ours is asked. The guard is forgotten after the
//!   call; if it is dropped instead it names plugin and hook and ends the process (`abi/src/call.rs`,
//!   `abi/tests/plugins/crash.rs`).
//! - **`exit()` called by a plugin is a crash** (SIGABRT), whatever code it gave: 0 would tell every
//!   supervisor that all is well. `_exit()` cannot be told from the kernel's own end and is not caught.
//! - **A crash is laid to the call that runs on its thread, before the place where it happened**: a NULL
//!   given to `strlen` is the plugin's doing. On other threads the nearest plugin on the stack counts. A
//!   signal from another process (systemd's watchdog, an operator) is laid to whoever blocks a worker,
//!   or nobody. Threads of plugins have no stack for handlers: one that overflows there ends the
//!   process without a word, and the supervisor says by which signal.
//! - **A blocked thread is asked for its stack by a signal only where no call can end early by that**
//!   (`abi/src/blocked.rs`); a sleep in `nanosleep` or `epoll_wait` would. The stack of such a thread is
//!   read from outside, and may show a call that is over.
//! - **Crashes count by the plugin's file**: one that was changed since is another plugin.
//! - **`plugin-failure: accept` passes over the plugin and grants nothing**: a login that nobody judged
//!   is refused as if no plugin had been asked.
//! - **The timer of a connection moves only to an earlier time.** Most deadlines move later with
//!   every command; the timer is left where it is and looks again when it fires. A busy connection
//!   so touches the wheel once in a while, not per command.
//! - **A smarthost that cannot be reached goes offline**, 1 s doubling to 60 s, and its mails wait
//!   without an attempt: an attempt is a mail's own trouble, and the retry schedule is too coarse
//!   for a hop that restarts.
//! - **Root opens ports and reads keys before the queue is read and plugins are loaded**, so that all of
//!   that happens as the `user`. Clients that come meanwhile wait for their greeting.
//! - **A long log is read while mail is taken**: the newest segment says after which id and octet to go on, and
//!   the other ones are needed by nobody before the workers hear of them. Until then nothing is removed or rewritten.
//! - **A reload swaps the settings of a worker as a whole**, by a message; sessions that have greeted
//!   their client keep the name and the limits they announced. Ports, threads and the queue's own
//!   settings wait for a restart: half of a worker cannot be made anew.
//! - **A reload of plugins does not wait on the main thread**: workers report when their contexts are ready,
//!   and the server answers others meanwhile. Settings are applied with the new plugins, in one message.
//! - **A plugin's metrics belong to its name and not to an instance**, so that counters survive a reload.
//!   They are `rohrpost_plugin_NAME_…`, because plugins do not know each other's words; what the server
//!   says about plugins is `rohrpost_plugins_…` with a label, so that the two cannot meet.
//! - **A drain keeps the listeners open and answers 421**: a closed port below 1024 could not be opened
//!   again without root, and a sender that is told 421 tries its next host at once.
//! - **The reserve is given to outcomes alone**: while it is spent no mail is taken, whatever
//!   `queue-min-free` says. Results and notices may take half of `queue-min-free` and nothing of the reserve;
//!   then they wait in memory with their outcomes, and of more than about a thousand deliveries wait too.
//! - **A mail that finds its connection closed is given back**, if the connection has carried mail
//!   before and said nothing about this one: next hops end connections after so many mails or so
//!   much idleness, and the two sides may do so at the same moment. Not if its text went ahead: then it
//!   may have arrived, and that was an attempt.
//! - **A connection that has paused is looked at before it gets a mail**; after a second it has rested, and its
//!   first reply has half a minute: one that a firewall forgot would else cost every mail the whole
//!   `smtp-out-timeout`. Such a mail is given back too. Nothing goes ahead of the first reply then.
//! - **Replies to MAIL and RCPT that came in one piece with BDAT LAST wait for that to the text**, 200 ms at
//!   most, and go with it in one write: a client that has sent all that waits for nothing else. A reply for which
//!   nobody is asked, to NOOP or a syntax error (RFC 2920 3.2), goes at once with all before it.
//! - **What a plugin decides of a mail counts while it cannot have arrived**: before its text, and after a
//!   failure. Behind the 354 only the end of the connection leads out (RFC 5321 3.3); once the text is out
//!   nothing does, and `mq_smtp_out_sent` that is held too long is taken back without ending the delivery:
//!   D-27 to the letter would send that mail twice.
//! - **A 250 waits for a held `mq_smtp_out_sent`** (D-82), and for no plugin that wants to know how it ended:
//!   then it is settled as soon as one takes control. Any other last word waits as well, so that
//!   there is one order of steps.
//! - **A mail that is put off before MAIL had no attempt**, as nothing was tried: its time is its bound, and
//!   a second the shortest pause. Elsewhere attempts count, and `max-attempts` holds.
//! - **A pause is kept as it was meant**, over restarts too, whatever the retry rule says by then: a plugin may
//!   have chosen it. It is told by when the attempt ended, so a wall clock that stood wrong lengthens none.
//! - **Another host is of one attempt**, and is a host that a message brings along: the same rules keep it from
//!   leading inside or to ourselves, and its login is nobody's.
//! - **A small text goes out with its envelope** (BDAT) where a next hop takes that: one round trip a mail in
//!   place of two, and one packet in place of three. Not where plugins are asked after the 354 (D-80, D-82), and
//!   not a large one, which a hop that refuses the recipient would have to read.
//! - **A handshake that fails is made up for by the next connection**, in clear where TLS is not required: no
//!   mail has been given to the first one, so none notices. Half an hour's mail follows in clear only if TLS
//!   itself failed, or the connection was lost twice in a row.
//! - **A password wants a certificate that is verified**, though mail does not: mail is one, a password is
//!   all that follows. `smarthost-auth` lowers that; a smarthost on this machine is exempt.
//! - **A login that fails costs no mail an attempt**: it is our own settings that are wrong, and the log says
//!   so as critical until they are mended.
//! - **Of a mail's attempts the last eight are kept in memory, the last one over a restart**; their
//!   number is exact. The whole history belongs into a log, not into every mail of a queue that may
//!   hold millions.
//! - **A mail that failed for good stays until `max-delivertime`**, so that it can be looked at, unless a
//!   named queue takes its result: then it is there that it is looked at.
//! - **The queue keeps up to a hundred attempts of a mail**, the first ten and the latest, and they are
//!   read back when a result is written: memory for them would be paid by every mail that waits.
//! - **A mail with wishes of its own has them in place of all of its message's**, not beside them: a
//!   plugin changes the JSON of one recipient, and what it takes away must be gone. Most mails have none, and
//!   pay a pointer.
//! - **Changes on the way out go with each outcome from then on**, whole: of a hundred outcomes and more the
//!   queue keeps some, so the latest has to suffice.
//! - **Facts in a message's JSON are told, not taken**: what a plugin writes over `message-id`, `connection`
//!   and the like is dropped without a word, a known property that means nothing is refused (D-63). It is
//!   shown no password, which stays with its host, port and name unless it gives another.
//! - **Notes are told to nobody**, results included: what the sender is to know belongs into a property.
//! - **Named queues are part of the log**: an entry is a transaction like any other, so it is as durable as
//!   mail, is rewritten and freed as mail is, and costs memory for its id only. They may be above their
//!   bound for a second, because it is looked at once a second, and for as long as the disk is away.
//! - **Fields named `x-mq-` of strangers are taken out and mean nothing.** They are this server's own words;
//!   followed, they would let anybody choose where our mail goes, and when. They end with the header and
//!   not with the first line in it that is no field, for a password may stand behind that.
//! - **The send log and the received log have a thread of their own**, not the application log's: that
//!   one must be able to say that these cannot be written. A line that has no room holds its outcome
//!   up, then deliveries, then new mail (452): whoever names a log wants every line. The disk that is
//!   full does so too; it goes on by itself when there is space. Their default is off, and MailerQ's
//!   is a file in the working directory, which a daemon has none of.
//! - **An outcome waits for the notice that it calls for**, which needs the mail's header, perhaps from
//!   disk ([`net::settlement`]): both are one record batch, so no crash can lose the notice. A bounded
//!   number waits; then deliveries pause. The notice of an outcome whose text is lost goes without it.
//! - **A delay is told with an attempt**, the first one that ends beyond `dsn-delay`: so it is told once
//!   without anything kept for it, over restarts too.
//! - **A delivered mail is freed in memory before its outcome is durable.** Waiting would keep the
//!   connection idle for a sync and would not narrow the window, which begins with the final dot.
//! - **Outcomes alone are not synced at once**: they go with the next transaction, or after a short
//!   time. A crash costs duplicates, never mail.
//! - **Schedules and ages run on the monotonic clock**, records carry unix time; both are read at one
//!   moment ([`delivery::Now`]). A restart translates what the records say, and clamps it, so that a
//!   wall clock that stood wrong neither removes mail nor keeps it for years.
//! - **Mail belongs to the worker in its id**, or, after `smtp-threads` was lowered, to the one that
//!   the id's worker is modulo the new number. A worker's limits need no lock for that.
//! - **The memory budget is for texts**: those of clients and those that plugins put in their place.
//!   Recipients and buffers of commands are bounded by the limits of a connection instead.
//! - **Memory is reserved when a text begins, not at MAIL** as the design has it: MAIL only asks whether
//!   it would fit. What is reserved at MAIL ten strangers can take away from everybody, by announcing
//!   much and sending nothing.
//! - **The last answer of a step counts, and ends it**: setters are read so, and a plugin that looks at a mail
//!   twice may think again. Nobody else is asked then; a plugin that refuses must not be outvoted by one that
//!   was loaded after it. MQ_retry takes an answer back, for the step begins anew.
//! - **A message has one reply** (D-43): a refusal of one recipient's mail refuses it for all, since the client
//!   cannot be told of one, and a notice to a forged sender would be worse. To drop one silently is a wish of its
//!   own (D-73), and logged, for nobody else will ever say that it was there.
//! - **RSET cannot be refused** (RFC 5321 4.1.1.5), so its hook may only end the connection.
//! - **The time of a named hold is the plugin's, up to `plugin-timeout`**: an administrator's limit that a plugin
//!   could lift would be none. Nothing is owed for such a hold (D-28): its release names what is over. An answer
//!   names no step, so what a plugin says that was not told of the end waits for the release that follows.
//! - **Where clients can log in they must** (D-35), unless the administrator says which networks need
//!   not: the default of `smtp-relay-range` is for a server that nobody can log in to. It is the same
//!   for users of `smtp-auth` and for a plugin that judges logins.
//! - **AUTH starts over.** What a plugin granted before (D-3A) ends with it, for whoever claims to be
//!   somebody and is not must not be better off than one who says nothing. A hold that is taken back ends
//!   what plugins granted, and leaves a login by `smtp-auth` alone. STARTTLS ends any login.
//! - **A failed login is answered `smtp-auth-delay` after it came**, however it failed, and counts as an
//!   error: so guessing is slow and has an end, and the time tells nothing. Where any user has a hash, a
//!   name without one, known or not, is hashed too, and always with the same user's cost.
//! - **One thread computes hashes**, of its own: texts that are read back do not wait behind 26 ms a
//!   login, and guessing takes one CPU at most. When 64 wait, or 8 of one address (of one /64 of IPv6),
//!   clients are told to come back (454), which counts as an error of theirs.
//! - **PLAIN is read as RFC 4616 has it**: a NUL in a password is refused there, and let through in LOGIN
//!   (D-38 asks for exact sizes). An empty name or password is refused before anybody is asked: some
//!   directories take it for an anonymous login.
//! - **What is queued stands in the order of its ids, in chunks** (`queue/ledger.rs`), for the log and for
//!   the workers: a million mails take no table that doubles, which would stop a thread while it moves, and
//!   the end of their time needs no second order (`delivery/ages.rs`). What few mails have is boxed away
//!   (`delivery/held.rs`, `queue/log/index.rs`); tests say how large an entry is.
//! - **Where mail goes is asked per destination and not per mail**: a destination lives while it has mails
//!   or connections, and answers are cached by their TTL behind it, in the resolver. Destinations are
//!   served in turn, each by what wakes it; nothing walks over all of them.
//! - **An address that could not be reached is tried last for a minute**, even if its preference is
//!   the best: a dead first MX would else cost every connection the whole connect-timeout.
//! - **A domain that cannot be reached ends the attempts of what is ready, a smarthost does not**: the
//!   first is the other side's trouble and may last for days, the second is our own. A host that a
//!   message brought along is as a domain.
//! - **A mail whose connection is lost goes on to a host that it has not tried**, in the same attempt; at
//!   the last one, and at a smarthost, its attempt ends. So it does once the whole text is out: the host
//!   may have taken it (RFC 5321 4.5.3.2.6), and another one would have it twice.
//! - **DNS leads only to the public Internet** unless `dns-private-targets` says more: whoever owns a
//!   domain could else make us talk to what listens inside. So does a host that a mail names, unless it is
//!   the settings' smarthost.
//! - **A session of TLS is taken up only where it was begun**: STARTTLS and ports that begin with TLS
//!   have ticket keys of their own, and a reload makes new ones. Tickets alone, no cache: what clients
//!   keep costs us nothing.
//! - **Opportunistic TLS looks at no certificate and no signature** (RFC 7435): whoever could show a
//!   wrong one could as well strip the offer, and refusing it would send the mail in clear.
//! - **The header of a proxy is looked at before it is read**, so that exactly it is taken from the
//!   socket, and what follows finds its way to TLS or to the session without a buffer in between.
//! - **A worker whose plugin is built on libev sleeps in libev**, which then watches the worker's one descriptor,
//!   and not the other way round: libev tells nobody when its next timer is due. Plugins that share a libev share
//!   its loop, so of a callback there no single one can be blamed, and each uses its own tokens (D-9F).
//! - **Plugins ask name servers with the resolver, cache and deadlines that routes go by**: a second resolver
//!   would know other servers and keep another cache. A query that is cancelled counts until it is answered.
//! - **A turn does a bounded number of steps of handshakes**: each may cost a signature, and the mail of
//!   others would wait for all of them.
//! - **A dialogue with a plugin runs the worker of the server** ([`plugin_kit`]), with its queue and its next
//!   hop, on one thread and by a clock that the script moves: what passes there passes in production. What
//!   stands outside of the loop (disk, threads, sockets) is real, and waited for by a real clock.
//! - **The layer for Rust copies strings** where C borrows: a string of a held step ends when the server takes
//!   the step back, which no lifetime can say.
#![forbid(unsafe_code)]

pub mod auth;
pub mod blocking;
pub mod cli;
pub mod clock;
pub mod control;
pub mod cost;
pub mod crashes;
pub mod delivery;
pub mod exposition;
pub mod extract;
pub mod header;
pub mod keeper;
pub mod limits;
pub mod load;
pub mod locals;
pub mod lock;
pub mod log;
pub mod logbook;
pub mod mailboxes;
pub mod manual;
pub mod memory;
pub mod metrics;
pub mod net;
pub mod notice;
pub mod plugin;
pub mod plugin_kit;
pub mod plugin_top;
pub mod program;
pub mod properties;
pub mod queue;
pub mod results;
pub mod rolls;
pub mod services;
pub mod settings;
pub mod sink;
pub mod smtp;
pub mod status;
pub mod supervisor;
pub mod taking;
pub mod tls;
pub mod upkeep;
pub mod view;
pub mod watchdog;
pub mod worker;
