//! The services thread: what well-kept asynchronous libraries do better than we would, on a runtime of
//! its own: asking name servers, where mail goes and on behalf of plugins, and showing numbers over HTTP.
//!
//! It sleeps until the first request and makes its runtime then, or at once where numbers are shown.
//! Requests come over a bounded channel and are answered into the asking worker's mailbox, each exactly
//! once: whatever becomes of a request, dropping it answers it.
//!
//! Must never: touch what a worker owns; keep a worker waiting.
//!
//! **Diagnostics**: what goes wrong is the answer; a panic is logged, and the thread starts anew; so is the
//! end of what shows numbers.

mod http;
mod lookup;
mod query;

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rohrpost_abi::{QueryAnswer, QueryId, QueryStatus, RecordKind};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use crate::delivery::mx::{NoAnswer, Unroutable};
use crate::delivery::{DestinationId, Finish, Route, Target};
use crate::exposition::Exposition;
use crate::log::{Level, Log};
use crate::mailboxes::Mailboxes;
use crate::net::desk::Mail;
use crate::settings::Settings;

use lookup::LookUps;

/// How long an answer to a full mailbox rests before it is offered again.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// How long the thread rests when it could not make its runtime or has panicked, and the page when its
/// server has ended.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// The way to the services thread.
#[derive(Clone, Debug)]
pub struct Services {
    requests: mpsc::Sender<Request>,
    mailboxes: Mailboxes,
}

/// A route with the milliseconds that it is good for, or how the attempts end that wanted it.
pub type Routed = Result<(Route, u64), Box<Finish>>;

impl Services {
    /// Looks up the route of a destination; [`Mail::Routed`] answers.
    ///
    /// # Errors
    /// The answer, where the request cannot even be made.
    pub fn look_up(
        &self,
        worker: usize,
        destination: DestinationId,
        target: Target,
    ) -> Result<(), Box<Finish>> {
        self.request(worker, Question::Route(destination, target))
            .map_err(|()| unanswered("there are too many look-ups, or their thread has ended"))
    }

    /// Asks on behalf of a plugin; [`Mail::Resolved`] answers.
    ///
    /// # Errors
    /// The status of the answer, where the request cannot even be made.
    pub fn resolve(
        &self,
        worker: usize,
        query: QueryId,
        name: &[u8],
        kind: RecordKind,
    ) -> Result<(), QueryStatus> {
        self.request(worker, Question::Records(query, name.into(), kind))
            .map_err(|()| QueryStatus::Failed)
    }

    fn request(&self, worker: usize, question: Question) -> Result<(), ()> {
        let mailboxes = Some(self.mailboxes.clone());
        self.requests.try_send(Request { worker, question, mailboxes }).map_err(|error| {
            let mut request = error.into_inner();
            // This is the worker's own thread, which must not wait for its own mailbox.
            request.mailboxes = None;
        })
    }
}

/// What can be asked.
#[derive(Debug)]
enum Question {
    /// Where mail goes.
    Route(DestinationId, Target),
    /// Whatever a plugin wants to know.
    Records(QueryId, Box<[u8]>, RecordKind),
}

impl Question {
    /// The answer if there is none.
    fn unanswered(&self, text: &str) -> Mail {
        match self {
            Question::Route(destination, _) => Mail::Routed(*destination, Err(unanswered(text))),
            Question::Records(query, ..) => {
                Mail::Resolved(*query, QueryAnswer::without_records(QueryStatus::Failed))
            }
        }
    }
}

/// One question and who waits for the answer.
#[derive(Debug)]
struct Request {
    worker: usize,
    question: Question,
    /// Gone when it has been answered.
    mailboxes: Option<Mailboxes>,
}

impl Request {
    async fn answer(mut self, mut mail: Mail) {
        let Some(mailboxes) = self.mailboxes.take() else { return };
        while let Err(back) = mailboxes.offer(self.worker, mail) {
            mail = back;
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }
}

/// A request that nobody answered, because of a panic or the end of the runtime.
impl Drop for Request {
    fn drop(&mut self) {
        if let Some(mailboxes) = self.mailboxes.take() {
            let text = "the look-up was cut off by a bug, or by the end of its thread";
            mailboxes.deliver(self.worker, self.question.unanswered(text));
        }
    }
}

fn unanswered(text: &str) -> Box<Finish> {
    let why = Unroutable::NoAnswer(NoAnswer { timed_out: false, text: text.to_owned() });
    Box::new(why.finish())
}

/// Where numbers are shown, and which.
#[derive(Debug, Clone)]
pub struct Page {
    /// It listens, and does not block.
    pub socket: Arc<std::net::TcpListener>,
    /// The numbers.
    pub exposition: Arc<Exposition>,
}

/// Starts the thread; it ends when every [`Services`] is gone. There is room for `requests_max`
/// requests: all that workers may have open at a time.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(
    settings: Arc<Settings>,
    listeners: Arc<[SocketAddr]>,
    requests_max: usize,
    mailboxes: Mailboxes,
    page: Option<Page>,
    log: Log,
) -> io::Result<(Services, JoinHandle<()>)> {
    let (requests, mut taken) = mpsc::channel(requests_max);
    let thread = std::thread::Builder::new().name("services".into()).spawn(move || {
        loop {
            let first = match &page {
                Some(_) => None,
                None => match taken.blocking_recv() {
                    Some(first) => Some(first),
                    None => return,
                },
            };
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    log.critical("services", format_args!("no runtime for look-ups: {error}"));
                    drop(first);
                    std::thread::sleep(FAILED_PAUSE);
                    continue;
                }
            };
            let work = AssertUnwindSafe(|| {
                let look_ups = LookUps::new(settings.clone(), listeners.clone());
                serve(runtime, look_ups, page.clone(), first, &mut taken, &log);
            });
            match catch_unwind(work) {
                Ok(()) => return,
                Err(_) => log.critical("services", "the services thread panicked, and starts anew"),
            }
            // What panics at once shall not take a processor for itself.
            std::thread::sleep(FAILED_PAUSE);
        }
    })?;
    Ok((Services { requests, mailboxes }, thread))
}

/// Has `serve` show the numbers, again after each `pause` where that has ended: nobody else would notice.
async fn show<F>(pause: Duration, log: Log, mut serve: impl FnMut() -> io::Result<F>)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        let ended = match serve() {
            // A panic in it is its own.
            Ok(serving) => tokio::spawn(serving).await.unwrap_or_else(|error| Err(error.into())),
            Err(error) => Err(error),
        };
        let why = ended.map_or_else(|error| error.to_string(), |()| "it has ended".to_owned());
        let text = format!("metrics-listen shows nothing: {why}");
        log.limited("metrics-listen", Level::Critical, "services", text);
        tokio::time::sleep(pause).await;
    }
}

/// Answers requests until nobody can ask any more.
fn serve(
    runtime: Runtime,
    mut look_ups: LookUps,
    page: Option<Page>,
    first: Option<Request>,
    requests: &mut mpsc::Receiver<Request>,
    log: &Log,
) {
    runtime.block_on(async move {
        if let Some(page) = page {
            // It ends with the runtime.
            tokio::spawn(show(FAILED_PAUSE, log.clone(), move || {
                Ok(http::serve(page.socket.try_clone()?, page.exposition.clone()))
            }));
        }
        let mut next = match first {
            Some(first) => Some(first),
            None => requests.recv().await,
        };
        while let Some(request) = next {
            // A panic in a task is its own: the request is dropped, and so answered.
            match &request.question {
                Question::Route(destination, target) => {
                    let (destination, look_up) = (*destination, look_ups.begin(target));
                    tokio::spawn(async move {
                        let routed = look_up.await;
                        request.answer(Mail::Routed(destination, routed)).await;
                    });
                }
                Question::Records(query, name, kind) => {
                    let (query, asked) = (*query, look_ups.begin_query(name, *kind));
                    tokio::spawn(async move {
                        let answer = asked.await;
                        request.answer(Mail::Resolved(query, answer)).await;
                    });
                }
            }
            next = requests.recv().await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Fate;
    use rohrpost_reactor::{
        Config, Handler, Pending, Reactor, Readiness, Ready, SystemClock, TimerKey, WatchKey,
    };

    /// A mailbox and who reads it.
    fn mailbox() -> (Mailboxes, Reactor<u8, u8, Mail>) {
        let reactor = Reactor::new(Config::default(), SystemClock::new()).unwrap();
        let mailboxes = Mailboxes::default();
        mailboxes.fill(vec![reactor.sender()]);
        (mailboxes, reactor)
    }

    /// Reads one answer.
    #[derive(Default)]
    struct Answers(Vec<Routed>);

    type Io = Reactor<u8, u8, Mail>;

    impl Handler for Answers {
        type Timer = u8;
        type Watch = u8;
        type Mail = Mail;

        fn on_timer(&mut self, _: &mut Io, _: TimerKey, _: u8) {}
        fn on_watch(&mut self, _: &mut Io, _: WatchKey, _: u8, _: Ready) {}
        fn on_socket(&mut self, _: &mut Io, _: mio::Token, _: Readiness) {}
        fn on_mail(&mut self, io: &mut Io, mail: Mail) {
            if let Mail::Routed(_, routed) = mail {
                self.0.push(routed);
                io.stop();
            }
        }
        fn resume(&mut self, _: &mut Io) -> bool {
            false
        }
        fn commit(&mut self, _: &mut Io) {}
        fn flush(&mut self, _: &mut Io) {}
        fn pending(&self) -> Pending {
            Pending::NONE
        }
    }

    #[test]
    fn a_request_that_is_dropped_is_answered() {
        let (mailboxes, mut reactor) = mailbox();
        let destination = DestinationId::default();
        let target = Target::Domain("example.org".into());
        let question = Question::Route(destination, target);
        drop(Request { worker: 0, question, mailboxes: Some(mailboxes) });
        let mut answers = Answers::default();
        reactor.run(&mut answers).unwrap();
        let finish = answers.0.pop().unwrap().unwrap_err();
        assert_eq!((finish.fate, &*finish.status), (Fate::Temporary, "4.4.3"));
    }

    #[test]
    fn a_look_up_that_panics_is_answered_and_harms_no_other() {
        let (mailboxes, mut reactor) = mailbox();
        let destination = DestinationId::default();
        let target = Target::Domain("example.org".into());
        let question = Question::Route(destination, target);
        let request = Request { worker: 0, question, mailboxes: Some(mailboxes) };
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async move {
            let task = tokio::spawn(async move {
                let _held = request;
                panic!("as a bug in a library would");
            });
            assert!(task.await.unwrap_err().is_panic());
        });
        let mut answers = Answers::default();
        reactor.run(&mut answers).unwrap();
        assert_eq!(answers.0.pop().unwrap().unwrap_err().status, "4.4.3");
    }

    #[test]
    fn what_shows_the_numbers_is_begun_again_whatever_ended_it_and_that_is_said() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let targets = [crate::log::Target::File(path.to_path_buf())];
        let (log, thread) = Log::start(&targets, Level::Critical).unwrap();
        let (done, mut served) = mpsc::channel(1);
        let mut ways = ["no socket", "refused", "panic", "over"].into_iter();
        let showing = show(Duration::ZERO, log, move || {
            let (way, done) = (ways.next(), done.clone());
            if way == Some("no socket") {
                return Err(io::Error::other("no socket"));
            }
            Ok(async move {
                match way {
                    Some("over") => Ok(()),
                    Some("panic") => panic!("as a bug in a library would"),
                    Some(why) => Err(io::Error::other(why)),
                    None => {
                        done.send(()).await.expect("the test waits for this");
                        std::future::pending().await
                    }
                }
            })
        });
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async move {
            tokio::spawn(showing);
            let served = tokio::time::timeout(Duration::from_secs(60), served.recv()).await;
            assert_eq!(served, Ok(Some(())));
        });
        thread.finish(Duration::from_secs(60)).unwrap();
        let said = std::fs::read_to_string(&path).unwrap();
        let whys = ["no socket", "refused", "panicked", "it has ended"];
        for (line, why) in said.lines().zip(whys) {
            assert!(line.contains("metrics-listen shows nothing") && line.contains(why), "{said}");
        }
        assert_eq!(said.lines().count(), whys.len(), "{said}");
    }

    #[test]
    fn a_request_that_cannot_be_made_says_so_and_answers_nobody_else() {
        let (mailboxes, _reactor) = mailbox();
        let (requests, taken) = mpsc::channel(1);
        let services = Services { requests, mailboxes };
        let ask =
            || services.look_up(0, DestinationId::default(), Target::Domain("example.org".into()));
        assert!(ask().is_ok());
        assert_eq!(ask().unwrap_err().status, "4.4.3", "full");
        drop(taken);
        assert_eq!(ask().unwrap_err().status, "4.4.3", "ended");
    }
}
